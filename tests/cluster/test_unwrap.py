import pickle

import pytest
from ray.exceptions import RayTaskError
from ray.train import WorkerGroupError

from paluku.cluster.unwrap import user_errors
from paluku.errors import CorpusError, StorageError


def as_ray_raises(cause: Exception) -> Exception:
    """What `ray.get` raises: at once a RayTaskError and of the cause's class, its text a traceback."""
    return RayTaskError("task", "Traceback ...\n  many lines", cause).as_instanceof_cause()


def test_a_task_error_becomes_the_error_itself() -> None:
    with pytest.raises(CorpusError) as caught, user_errors():
        raise as_ray_raises(CorpusError("shard 7 is missing; build it again"))
    assert str(caught.value) == "shard 7 is missing; build it again"
    assert not isinstance(caught.value, RayTaskError)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_wrappers_may_be_nested_and_chained() -> None:
    inner = as_ray_raises(as_ray_raises(StorageError("the disk is full")))
    with pytest.raises(StorageError, match=r"^the disk is full$"), user_errors():
        raise RuntimeError("dataset execution failed") from inner


def test_a_training_workers_error_is_found() -> None:
    failures: dict[int, Exception] = {
        0: RuntimeError("gloo: peer left"),
        1: as_ray_raises(CorpusError("no dev split")),
    }
    with pytest.raises(CorpusError, match=r"^no dev split$"), user_errors():
        raise WorkerGroupError("2 workers failed", failures)


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), CorpusError("direct"), KeyboardInterrupt()])
def test_anything_else_passes_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, user_errors():
        raise error
    assert caught.value is error


def test_a_bug_in_a_task_stays_a_bug() -> None:
    with pytest.raises(RayTaskError), user_errors():
        raise as_ray_raises(ValueError("not the user's to mend"))

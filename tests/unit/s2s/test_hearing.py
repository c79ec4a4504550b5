"""What the last frames sound like: causal, of some frames, and in a stream what it is in whole rows."""

import subprocess
import sys

import torch

from paluku.nn.state import take
from paluku.s2s.config import S2SConfig
from paluku.s2s.hearing import TURN_FRAMES, Hearing
from paluku.s2s.model import S2SModel
from tests.fakes.s2s import HEARING as SMALL

K, V, T = 3, 7, 20
CONFIG = S2SConfig(num_codebooks=K, codebook_size=V, text_vocab=11, dim=16, heads=2)


def hearing() -> Hearing:
    torch.manual_seed(0)
    made = Hearing(CONFIG, SMALL)
    torch.nn.init.normal_(made.codes.table)
    return made.eval().requires_grad_(False)


HEARING = hearing()
CODES = torch.randint(0, V + 1, (2, K, T), generator=torch.Generator().manual_seed(1))
POSITION = torch.arange(T).expand(2, T)
EVERYONE = torch.tensor([True, True])


def test_a_code_is_heard_for_as_long_as_the_blocks_reach() -> None:
    assert SMALL.past == 9, "6 of the blocks, 3 of the sum"
    other = CODES.clone()
    other[0, 1, 6] = (other[0, 1, 6] + 1) % V
    moved = (HEARING(CODES, POSITION).features - HEARING(other, POSITION).features).abs().sum(dim=2) > 0
    assert moved[0].nonzero().flatten().tolist() == list(range(6, 16))
    assert not moved[1].any()
    sounds = (HEARING(CODES, POSITION).sounds - HEARING(other, POSITION).sounds).abs().sum(dim=2) > 0
    assert sounds[0].nonzero().flatten().tolist() == [6, 7, 8], "after the first block"


def test_nothing_is_heard_of_the_document_before() -> None:
    position = torch.where(POSITION < 7, POSITION, POSITION - 7)
    together = HEARING(CODES, position)
    apart = [HEARING(CODES[..., part], position[:, part]) for part in (slice(7), slice(7, None))]
    for name, whole in together._asdict().items():
        torch.testing.assert_close(whole, torch.cat([getattr(each, name) for each in apart], dim=1))


def test_in_a_stream_it_hears_the_same_and_a_seat_that_waits_stays() -> None:
    expected = HEARING(CODES, POSITION)
    state, first = HEARING.init_state(2), 0
    for frames in (1, 3, 1, 2):
        heard = HEARING.stream(state, CODES[..., first : first + frames], EVERYONE)
        for part, whole in zip(heard, expected, strict=True):
            torch.testing.assert_close(part, whole[:, first : first + frames])
        first += frames
    waiting = take(state, 1)
    HEARING.stream(state, CODES[..., 7:8], torch.tensor([True, False]))
    assert all(map(torch.equal, take(state, 1), waiting))
    heard = HEARING.stream(state, CODES[..., 8:9], EVERYONE)
    torch.testing.assert_close(heard.features[0], expected.features[0, 8:9])


def test_a_step_of_many_seats_can_be_compiled() -> None:
    code = (
        "import torch\n"
        "from paluku.s2s.hearing import Hearing\n"
        "from tests.fakes.s2s import CONFIG, HEARING, K\n"
        "hearing = Hearing(CONFIG, HEARING).eval().requires_grad_(False)\n"
        "torch.nn.init.normal_(hearing.codes.table)\n"
        "step = torch.compile(hearing.stream, backend='eager', fullgraph=True)\n"
        "codes, everyone = torch.ones(2, K, 1, dtype=torch.int64), torch.tensor([True, True])\n"
        "heard = [run(hearing.init_state(2), codes, everyone).features for run in (step, hearing.stream)]\n"
        "torch.testing.assert_close(*heard)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # the tests' type checks cannot be compiled


def test_a_class_tells_its_token_once() -> None:
    words, told = torch.randn(40, SMALL.width), torch.zeros(1, dtype=torch.int64)
    said = []
    for frame in words:
        told, token = HEARING.told(frame[None], told)
        said.append(int(token))
    once = HEARING.tokens(words).argmax(dim=1).unique_consecutive().tolist()
    assert [token for token in said if token] == [token for token in once if token]


def test_frozen_it_hears_as_in_use_and_learns_nothing() -> None:
    torch.manual_seed(0)
    noisy = SMALL.model_copy(update={"dropout": 0.5})
    model = S2SModel(CONFIG.model_copy(update={"hearing": noisy}))
    assert model.hearing is not None
    model.train()
    assert not torch.equal(*(model.hearing(CODES, POSITION).words for _ in range(2)))
    model.hearing.freeze()
    model.train()
    assert torch.equal(*(model.hearing(CODES, POSITION).words for _ in range(2)))
    learning = [name for name, weight in model.hearing.named_parameters() if weight.requires_grad]
    assert learning == ["out.weight", "gathered.weight"]
    assert model.temporal.training


def test_the_transformer_is_told_the_sum_of_the_last_frames_gist() -> None:
    alone = HEARING.config.model_copy(update={"gathers": 0})
    deaf = Hearing(CONFIG, alone)
    here = deaf.state_dict()
    deaf.load_state_dict({name: each for name, each in HEARING.state_dict().items() if name in here})
    heard = HEARING(CODES, POSITION)
    assert HEARING.gathered is not None
    added = heard.features - deaf.eval()(CODES, POSITION).features
    for t in (0, 2, 3, T - 1):
        summed = heard.gist[:, max(0, t - 3) : t + 1].sum(dim=1) / TURN_FRAMES
        torch.testing.assert_close(added[:, t], HEARING.gathered(summed), atol=1e-6, rtol=1e-4)

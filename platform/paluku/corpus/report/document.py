"""The frame of a report page: one file without scripts, loading nothing, its sections reached from a list."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from paluku.corpus.report.page_style import CSS

# Nothing from elsewhere is loaded, and no script runs.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"


def document(title: str, subtitle: str, tiles: str, sections: Mapping[str, str], style: str = CSS) -> str:
    """A page; `title` and `subtitle` are plain text, the others HTML, sections by their one-word names."""
    title = escape(title)
    links = "".join(f'<li><a href="#{name.lower()}">{name}</a></li>' for name in sections)
    body = "".join(
        f'<section id="{name.lower()}" aria-labelledby="{name.lower()}-title">'
        f'<h2 id="{name.lower()}-title">{name}</h2>{content}</section>'
        for name, content in sections.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head><body><header><h1>{title}</h1>"
        f'<p class="soft">{escape(subtitle)}</p></header>{tiles}'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav><main>{body}</main></body></html>\n'
    )


def facts(pairs: Iterable[Sequence[str]]) -> str:
    """Names and values as tiles."""
    shown = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="tiles">{"".join(shown)}</dl>'

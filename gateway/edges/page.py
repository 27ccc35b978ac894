"""The static page an edge shows to newcomers while no gateway answers: it asks for nothing, and tries again by itself."""

from __future__ import annotations

from typing import Final

from gateway.edges.site import RETRY_S

# Without apostrophes, so that it can stand in single quotes in every configuration that is printed.
STATIC_PAGE: Final = (
    '<!doctype html><html lang="ko"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    f'<meta http-equiv="refresh" content="{RETRY_S}"><title>잠시만 기다려 주세요 · One moment, please</title>'
    "<style>body{font:1.1rem/1.6 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem;"
    "color-scheme:light dark}</style>"
    "<h1>잠시만 기다려 주세요</h1><p>지금은 대기열에 연결할 수 없습니다. 이 페이지는 자동으로 다시 시도합니다. "
    "이미 받은 순서는 사라지지 않습니다.</p>"
    '<div lang="en"><h1>One moment, please</h1><p>The line cannot be reached just now. This page tries again by itself. '
    "A place you already have is kept.</p></div></html>"
)
assert "'" not in STATIC_PAGE

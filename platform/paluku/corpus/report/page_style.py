"""The looks of a report: one sheet, light and dark by the reader's preference, from 320 px upwards."""

CSS = """
:root { color-scheme: light dark; --paper: #fdfdfb; --ink: #1c1e21; --soft: #5b6068; --line: #d9dbd6;
  --card: #f4f4f0; --mark: #0b6e69; --other: #b3521b; --bar: #5f8f8b; --shade: #0b6e6926; --cut: #b3521b33; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e8e9e6; --soft: #a3a9b0;
  --line: #33383d; --card: #1c2024; --mark: #62c8bf; --other: #f0a06c; --bar: #4b918b; --shade: #62c8bf2b;
  --cut: #f0a06c3d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem clamp(.8rem, 3vw, 2rem) 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, "Noto Sans", "Noto Sans Telugu", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .6rem 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .3rem; } p { margin: .2rem 0 .6rem; } .soft { color: var(--soft); }
a { color: var(--mark); } :focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; list-style: none; }
nav a { display: inline-block; padding: .3rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .7rem;
  margin: 0; }
.tiles div, .card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .8rem; min-width: 0; }
.tiles dt { color: var(--soft); font-size: .85rem; } .tiles dd { margin: 0; font-size: 1.15rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: .8rem; }
.grid { align-items: start; }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; font-size: .92rem; overflow-wrap: normal; }
caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { text-align: right; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; font-variant-numeric: tabular-nums; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; }
tbody th { font-weight: 500; white-space: normal; min-width: 6rem; }
th.word, td.word { text-align: left; } .long { text-align: left; }
td.long { min-width: 16rem; white-space: normal; overflow-wrap: anywhere; }
svg { display: block; width: 100%; } .chart { height: auto; } .wave { height: 4.5rem; }
.bars { fill: var(--bar); } .axis { stroke: var(--line); }
.median { stroke: var(--other); stroke-width: 2; stroke-dasharray: 4 3; }
.chart text { fill: var(--soft); font-size: 12px; }
.wave polygon { fill: var(--mark); } .wave .said { fill: var(--shade); }
.wave .backchannel, .wave .interruption, .wave .cut { fill: var(--cut); }
.channel { margin: .3rem 0 0; font-size: .85rem; color: var(--soft); }
.spectrum { display: block; width: 100%; height: 7rem; border-radius: .3rem; margin: .5rem 0; }
audio { width: 100%; margin: .3rem 0; } dl.facts { margin: .3rem 0 0; font-size: .9rem; }
dl.facts div { display: inline-block; margin-right: 1rem; } dl.facts dt { display: inline;
  color: var(--soft); }
dl.facts dd { display: inline; margin: 0 0 0 .3rem; } ol.turns { padding-left: 1.4rem; margin: .4rem 0; }
ol.turns .soft { font-size: .85rem; } .text { font-size: 1.05rem; }
@media print { audio, nav { display: none; } }
"""

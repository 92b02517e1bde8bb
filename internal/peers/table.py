"""The table in docs/benchmarks.md, made of the files that the suites have left."""

import json
import statistics

from load import median, ratio
from rivals import registry

BEGIN, END = "<!-- task bench:peers: begin -->", "<!-- task bench:peers: end -->"
BASES = {"smg": "SMG", "reverseproxy": "proxy"}


def write(documents, page):
    """Puts the tables of all files between the marks of the page, or behind what a page without marks says."""
    found = {file.stem.removeprefix("peers-"): json.loads(file.read_text()) for file in sorted(documents.glob("peers-*.json"))}
    text = "\n\n".join(render(name, found[name]) for name in RENDERERS if name in found)
    old = page.read_text() if page.exists() else ""
    page.write_text(between(old, text))
    print(f"{page}: {', '.join(name for name in RENDERERS if name in found) or 'no file, so no table'}", flush=True)


def between(page, text):
    if BEGIN not in page:
        page = f"{page}{BEGIN}\n{END}\n"
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}"


def render(name, document):
    title, tables = RENDERERS[name]
    result, made = document["result"], document["machine"]
    go = made["go"].replace("go", "Go ")
    facts = [
        f"{document['date']}, {document['rounds']} rounds, Radixbus at {made['radixbus']}, {made['cores']} cores of {made['cpu']}, "
        f"Linux {made['kernel']}, {go}; [each round](benchmarks/peers-{name}.json)."
    ]
    if document["quick"]:
        facts.append("A quick look, not a measurement.")
    if share := load_share(result):
        facts.append(share)
    skipped = dict(document["skipped"])
    for part in result.get("groups", [result]):
        skipped.update(part.get("skipped", {}))
    if skipped:
        reasons = "; ".join(f"{title_of(rival, document)}: {reason}" for rival, reason in skipped.items())
        facts.append(f"Left out: {reasons}.")
    return "\n\n".join([f"### {title}", " ".join(facts), *(table(document) for table in tables)])


def load_share(result):
    """What the load generator took of the machine, over all that it measured."""
    cores = [
        cores
        for group in result.get("groups", [])
        for case in group["cases"].values()
        for target in case["targets"].values()
        if (cores := median(target, "client_cpu_cores")) is not None
    ]
    return f"The load itself kept {number(min(cores))} to {number(max(cores))} cores busy." if cores else ""


def title_of(name, document):
    title = next((rival.title for rival in registry.RIVALS if rival.name == name), name)
    return f"{title} {document['versions'].get(name, '')}".strip()


def grid(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value):
    """Two digits that count, more where more stand before the point."""
    if value is None:
        return "–"
    if abs(value) >= 10:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"


def times(value):
    return "–" if value is None else f"{value:.2f}"


def megabytes(value):
    return number(value / 1e6)


# What a cell shows of a case: the measure, what it is multiplied with to be in the unit of the title, and what stands for it where
# nothing is added: in the row without a router.
ADDED = [("added_first_p50", 1e3, "first_byte_p50"), ("added_first_p99", 1e3, "first_byte_p99")]
ADDED_TTFT = [("added_first_p50", 1e3, "ttft_p50"), ("added_first_p99", 1e3, "ttft_p99")]
GAP, ADDED_GAP = ("itl_p99", 1e3, None), ("added_itl_p99", 1e3, "itl_p99")
CPU, CPU_TOKEN = ("cpu_per_request", 1e3, None), ("cpu_per_output_token", 1e6, None)
RATE, TOKENS = ("requests_per_second", 1, None), ("output_tokens_per_second", 1, None)


def cases(*columns):
    """A table with a row for each rival and three columns for each case: the title and its measures, then the ratios of some of
    them to SMG and to the plain proxy."""

    def table(document):
        groups = document["result"]["groups"]
        shown = [column for column in columns if column[0] in groups[0]["cases"]]
        header = [""] + [text for _, title, _, ratios in shown for text in (title, *(f"× {base}" for base in BASES.values()))] + ["errors"]
        rows, done = [], set()
        for group in groups:
            for rival in registry.RIVALS:
                if rival.name in done or not any(rival.name in case["targets"] for case in group["cases"].values()):
                    continue
                done.add(rival.name)
                rows.append([title_of(rival.name, document), *case_row(rival.name, group["cases"], shown)])
        return grid(header, rows)

    return table


def case_row(name, found, columns):
    cells, errors = [], 0
    for case, _, measures, ratios in columns:
        targets = found[case]["targets"]
        mine = targets.get(name)
        if mine is None:
            cells += ["–"] * (1 + len(BASES))
            continue
        errors += mine["errors"]
        values = [median(mine, measure if measure in mine["rounds"] else instead or measure) for measure, _, instead in measures]
        cells.append(" / ".join(number(v if v is None else v * factor) for v, (_, factor, _) in zip(values, measures)))
        for base in BASES:
            of = targets.get(base)
            plain = name == "direct" or of is None
            cells.append("" if plain else " / ".join(times(ratio(mine, of, measure)) for measure in ratios))
    return [*cells, str(errors)]


def bodies(document):
    header = ["", "gap p99 alone, ms"]
    header += [f"beside {size.upper().replace('MB', ' MB')}, ms (bodies, failed; s each)" for size in ("1mb", "4mb", "64mb")]
    header += ["memory: start, most, after a minute, MB", "back after, s"]
    rows = []
    for name, of in document["result"]["rivals"].items():
        cells = [title_of(name, document), number(milli(middle(of["quiet_itl_p99"])))]
        for size in ("1mb", "4mb", "64mb"):
            sent = of[size]
            failed = sum(sent["errors"].values())
            cells.append(f"{number(milli(middle(sent['itl_p99'])))} ({sent['sent']}, {failed}; {number(middle(sent['seconds']))})")
        memory = of["memory"]
        cells.append(", ".join(megabytes(memory[key]) for key in ("start", "peak", "end")))
        back = memory["back_after_seconds"]
        cells.append("not within it" if back is None else number(back))
        rows.append(cells)
    return grid(header, rows)


def idle(document):
    header = ["", "idle: % of a core", "memory, MB", "an idle connection of 10,000, KB (failed)", "1,000 connects at once: late, failed", "the slowest, s"]
    rows = []
    for name, of in document["result"]["rivals"].items():
        cells = [title_of(name, document), number(of["cores"] * 100), megabytes(of["rss"])]
        if "connections" in of:
            burst, held = of["at_once"], of["connections"]
            cells.append(f"{number(held['bytes_each'] / 1e3)} ({held['failed']})")
            cells.append(", ".join(number(middle([one[what] for one in burst])) for what in ("late", "failed")))
            cells.append(number(middle([one["slowest_seconds"] for one in burst])))
        rows.append(cells + ["–"] * (len(header) - len(cells)))
    return grid(header, rows)


def held(document):
    header = ["", "streams", "memory: before, held, most, MB", "a stream: held, most, KB", "refused", "cut", "with another's tokens"]
    rows = []
    for name, of in document["result"]["rivals"].items():
        rows.append([
            title_of(name, document), number(of["opened"]),
            ", ".join(megabytes(of[key]) for key in ("rss_before", "rss_held", "rss_most")),
            ", ".join(number(of[key] / 1e3) for key in ("bytes_each", "bytes_each_most")), str(of["refused"] + of["failed"]), str(of["cut"]), str(of["foreign"]),
        ])
    return grid(header, rows)


def middle(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def milli(seconds):
    return None if seconds is None else seconds * 1e3


ONE_AT_A_TIME = "added first byte p50 / p99, CPU, ms"
RENDERERS = {
    "core": (
        "Single requests and throughput",
        [
            cases(*(
                (case, f"{size}: {ONE_AT_A_TIME}", [*ADDED, CPU], ["added_first_p50", "cpu_per_request"])
                for case, size in (("1k-c1", "1 KB"), ("20k-c1", "20 KB"), ("220k-c1", "220 KB"))
            )),
            cases(*(
                (case, f"{size}: requests/s, CPU, ms", [RATE, CPU], ["requests_per_second", "cpu_per_request"])
                for case, size in (("1k-c32", "1 KB, 32 at a time"), ("20k-c16", "20 KB, 16 at a time"))
            )),
        ],
    ),
    "stream64": (
        "64 streams of 160 tokens, 20 ms apart",
        [cases(("stream64", "CPU a token, µs; added gap p99, ms", [CPU_TOKEN, ADDED_GAP], ["cpu_per_output_token"]))],
    ),
    "stream1000": (
        "1,000 streams of 60 tokens, 50 ms apart",
        [cases((
            "stream1000", "added TTFT p50 / p99, ms; CPU a token, µs; gap p99, ms", [*ADDED_TTFT, CPU_TOKEN, GAP],
            ["added_first_p50", "cpu_per_output_token", "itl_p99"],
        ))],
    ),
    "unpaced": (
        "32 streams of 200 tokens, as fast as they are read",
        [cases(("unpaced", "tokens/s; CPU a token, µs", [TOKENS, CPU_TOKEN], ["output_tokens_per_second", "cpu_per_output_token"]))],
    ),
    "bodies": ("Prompts of 1, 4 and 64 MB beside 32 streams of a token each 20 ms", [bodies]),
    "idle": ("Nothing to do, and many connections", [idle]),
    "held": ("Slow streams, a token each two seconds", [held]),
}

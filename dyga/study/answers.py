"""The answers to the plan's questions, from the table of all runs: statistics, sentences, tables and the figure."""

import math
import re
import zlib
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from dyga import plots
from dyga.config import Config
from dyga.provenance import describe, write_atomically
from dyga.study import ablation, report
from dyga.study.plan import TABLE, Part, Plan, Question, damaged_table, key, read_plan
from dyga.study.statistics import holm, stratified_difference, verdict

CSV = TABLE.name
COLUMNS = {"world": str, "variant": str, "seed": int, "steps": int, "commit": str, "measure": str, "value": float}
ALL = "all worlds"
LEVELS = (
    "FactorVAE score",
    "DCI",
    "completeness",
    "MIG",
    "k-NN purity",
    "interchange, one unit",
    "interchange, all units",
    "PSNR",
)
CAPTION = (
    "*Dots: seeds. Lines: 95% intervals. Ticks: means of a world. Diamonds: means over the worlds. Grey: plus and minus the "
    "smallest effect that matters.*"
)


def read_runs(path: Path) -> pd.DataFrame:
    """The table of all runs, one row per run and measure; empty if it does not exist yet. ValueError if it is damaged."""
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    try:
        return pd.read_csv(path, dtype=COLUMNS)[list(COLUMNS)]
    except (ValueError, KeyError, OSError, EOFError, zlib.error):
        raise damaged_table(path) from None


def differences(runs: pd.DataFrame, part: Part, question: Question) -> dict[str, pd.Series]:
    """For each world of the part that has pairs, the differences by seed."""
    found = {}
    rows = runs[(runs["steps"] == part.steps) & runs["seed"].isin(part.seeds) & (runs["measure"] == question.measure)]
    for world in part.worlds:
        own = rows[rows["world"] == world]
        with_it, without = (ablation.by_seed(own, names.split("+"), ["value"]) for names in (question.with_it, question.without))
        found[world] = (with_it["value"] - without["value"]).dropna()
    return {world: values for world, values in found.items() if len(values)}


def answers(runs: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """One row per question and world, and one for all worlds: the mean paired difference, its 95% interval, p, the p adjusted
    over the part's questions in that world, and the answer.

    The questions of a part are answered together: unless all its pairs are there, in all its worlds, the adjusted p is missing
    and the answer is "interim".
    """
    rows = []
    for part in plan.parts:
        for question in part.questions:
            found = differences(runs, part, question)
            asked = {"part": part.name, "question": question.name, "measure": question.measure}
            for world in (ALL, *part.worlds):
                strata = [values for name, values in found.items() if world in (ALL, name)]
                planned = len(part.seeds) * (len(part.worlds) if world == ALL else 1)
                row = asked | {"world": world, "pairs": sum(map(len, strata)), "planned": planned}
                if strata:
                    mean = stratified_difference([values.to_numpy() for values in strata])
                    row |= {"difference": mean.mean, "low": mean.low, "high": mean.high, "p": mean.p}
                rows.append(row)
    table = pd.DataFrame(rows, columns=[*rows[0], *(n for n in ("difference", "low", "high", "p") if n not in rows[0])])
    families = table.groupby(["part", "world"], sort=False)
    complete = (table["pairs"] == table["planned"]).groupby(table["part"]).transform("all")
    table["adjusted p"] = families["p"].transform(holm).where(complete)
    table["answer"] = [_answer(row, plan) for row in table.to_dict("records")]
    return table


def _answer(row: dict, plan: Plan) -> str:
    if math.isnan(row["adjusted p"]):
        return "interim"
    largest = max(row["high"], -row["low"])
    found = verdict(row["difference"], row["adjusted p"], plan.level)
    if largest > plan.smallest[row["measure"]]:
        return found
    bound = _short(math.ceil(1e3 * largest) / 1e3)
    return f"no effect larger than {bound}" if found == "undecided" else f"{found}, by at most {bound}"


def _short(value: float, sign: str = "") -> str:
    """.023 or, with the sign '+', +.023."""
    return re.sub(r"^(\D?)0\.", r"\1.", f"{value:{sign}.3f}").replace("-", "−")


def numbers(row: dict) -> str:
    """'+.023 [+.011, +.035], p .004', with the adjusted p if there is one."""
    interval = f"{_short(row['difference'], '+')} [{_short(row['low'], '+')}, {_short(row['high'], '+')}]"
    p = row["adjusted p"]
    return interval if math.isnan(p) else f"{interval}, p {'< .001' if p < 0.001 else _short(p)}"


def _cell(row: dict) -> str:
    """The answer and its numbers; no line breaks within the interval, nor after the p."""
    return re.sub(r"(?<=,) (?=[+−])|(?<=p) ", "\u00a0", f"{row['answer']}: {numbers(row)}")


def in_words(found: pd.DataFrame, world: str = ALL) -> list[str]:
    """A sentence per answered question of `answers`, for all worlds or one of them, as Markdown list items."""
    return [
        f"- **{row['question'][0].upper()}{row['question'][1:]}: {row['answer']}.** {row['measure']} {numbers(row)} "
        f"({row['pairs']} pairs)."
        for row in found[(found["world"] == world) & (found["answer"] != "interim")].to_dict("records")
    ]


def of_world(runs: pd.DataFrame, world: str) -> list[str]:
    """What the planned study says of one world, as Markdown; empty if it answers no question there yet."""
    answered = in_words(answers(runs, read_plan()), world)
    lead = f"The planned study, with runs of its own on seeds that nothing was tuned on, says of {world}:"
    return ["", lead, "", *answered] if answered else []


def missing_runs(runs: pd.DataFrame, planned: Part | Plan) -> list[Config]:
    """The planned runs, of a part or of the whole plan, that a table does not have."""
    there = set(runs[["world", "variant", "seed", "steps"]].itertuples(index=False, name=None))
    return [config for config in planned.configs() if key(config) not in there]


def answered_parts(runs: pd.DataFrame, plan: Plan) -> list[Part]:
    """The parts with questions, all of whose runs are done."""
    return [part for part in plan.parts if part.questions and not missing_runs(runs, part)]


def section(runs: pd.DataFrame, plan: Plan) -> str:
    """The results as Markdown: how many runs there are; for each complete part its answers, in words and as a table, and its
    scores."""
    planned = len(plan.configs())
    done = planned - len(missing_runs(runs, plan))
    hours = sum(plan.seconds[config.profile] for config in plan.configs()) / 3_600
    smallest = f"{max(plan.smallest.values()):g}".removeprefix("0")
    lines = [
        f"The plan (`dyga/study/plan.toml`) was committed before its runs. **{done} of {planned} planned runs are done.** "
        f"`./run_all.sh --variants plan --out DIR` makes all of them in {hours:.0f} hours of one core. "
        "Differences are paired by seed and world; a positive one is an improvement. Intervals are 95%. *p* is adjusted by "
        "Holm's method over the questions of a table, in each of its columns. *No effect larger than X*: the interval lies "
        f"within plus and minus X, which is at most {smallest}, the smallest effect that matters. X is not adjusted for the "
        "number of questions. *By at most X* was added to the verdict after the results. *All worlds* is the mean over these "
        "worlds; its interval assumes that differences vary equally in each of them. One world may differ from the mean. Models "
        "of faces2d_correlated are measured on faces2d."
    ]
    found = answers(runs, plan)
    for part in plan.parts:
        lines += ["", f"### {part.name[0].upper()}{part.name[1:]}: {', '.join(part.worlds)}, {part.steps:,} steps"]
        if missing := len(missing_runs(runs, part)):
            lines += ["", f"{missing} of {len(part.configs())} runs are missing. There are no results before all are done."]
            continue
        own = found[found["part"] == part.name]
        if not part.questions:
            lines += ["", f"Exploratory: {len(part.seeds)} seeds, mean and standard deviation, no tests."]
        if len(own):
            cells = own.assign(cell=[_cell(row) for row in own.to_dict("records")])
            wide = cells.pivot(index=["question", "measure"], columns="world", values="cell").reindex(
                index=pd.MultiIndex.from_frame(own[["question", "measure"]].drop_duplicates()), columns=[ALL, *part.worlds]
            )
            lines += ["", *in_words(own), "", *_markdown(wide.reset_index())]
        read = [f"R2, {how}: {factor}" for names in part.ordered.values() for factor in names for how in ("linear", "boosted")]
        lines += ["", *_markdown(levels(runs, part, read or list(LEVELS)))]
    return "\n".join(lines)


def levels(runs: pd.DataFrame, part: Part, measures: list[str]) -> pd.DataFrame:
    """Mean and standard deviation over a part's seeds: one row per world and variant."""
    rows = []
    chosen = runs[(runs["steps"] == part.steps) & runs["seed"].isin(part.seeds)]
    for world in part.worlds:
        for variant in part.variants:
            own = chosen[(chosen["world"] == world) & (chosen["variant"] == variant)]
            values = {name: own.loc[own["measure"] == name, "value"] for name in measures}
            shown = {name: report.mean_spread(each, digits=1 if name == "PSNR" else 3) for name, each in values.items()}
            rows.append({"world": world, "variant": variant, "runs": own["seed"].nunique()} | shown)
    return pd.DataFrame(rows)


def _markdown(frame: pd.DataFrame) -> list[str]:
    rows = [list(frame.columns), ["---"] * frame.shape[1], *frame.to_numpy().tolist()]
    return [f"| {' | '.join(map(str, row))} |" for row in rows]


def figure(runs: pd.DataFrame, plan: Plan) -> Figure:
    """Every seed's difference, and the intervals, for the questions that are answered."""
    found, points = answers(runs, plan), {}
    for part in answered_parts(runs, plan):
        points |= {f"{question.name} ({question.measure})": differences(runs, part, question) for question in part.questions}
    labels = found["question"] + " (" + found["measure"] + ")"
    columns = found.set_index("world")[["difference", "low", "high"]]
    intervals = {label: columns[(labels == label).to_numpy()].T.to_dict("list") for label in points}
    return plots.seed_differences(points, intervals, max(plan.smallest.values()))


def write(folder: Path) -> None:
    """From `folder`/study.csv.gz: the section "The study" of README.md, which replaces an older one; and as soon as a question is
    answered, the figure study.png and the table study_answers."""
    runs, plan = read_runs(folder / CSV), read_plan()
    page = folder / "README.md"
    text = page.read_text() if page.exists() else "# Results\n"
    if answered_parts(runs, plan):
        origin = describe(run="the study's plan", commits=sorted(runs["commit"].unique()))
        report.write_figure(figure(runs, plan), folder / "study", origin)
        report.write_table(answers(runs, plan), folder / "study_answers", "Answers of the study's plan", origin)
    write_atomically(page, with_section(text, runs, plan))


def with_section(page: str, runs: pd.DataFrame, plan: Plan) -> str:
    """A page whose section "The study" says what the runs say."""
    text = f"## The study\n\n{section(runs, plan)}\n"
    if answered_parts(runs, plan):
        text += f"\n![Every seed's difference, and 95% intervals](study.png)\n\n{CAPTION}\n"
    if len(runs):
        text += f"\nEvery number of every run: [{CSV}]({CSV}).\n"
    older = re.compile(r"^## The study\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if older.search(page):
        return older.sub(lambda found: text + ("\n" if found.end() < len(page) else ""), page)
    first = re.search(r"^## ", page, re.MULTILINE)
    return f"{page[: first.start()]}{text}\n{page[first.start() :]}" if first else f"{page}\n{text}"

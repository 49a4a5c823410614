"""From trials to tables: derived metrics, advantages by round, verdicts, Markdown.

An advantage is how many times better our arm was than another in the same round: ours / theirs where more is better,
theirs / ours where less is. Of several rounds the median counts; the range stands beside it, and a bound that only some
rounds meet is said to be met so.
"""

from statistics import median

MORE_IS_BETTER = {"records_per_s", "mb_per_s", "plain_per_s", "share", "acked"}
# Shown for every case that names none of its own.
COMMON = ("records_per_s", "mb_per_s", "cpu_s_per_gb", "cpu_user_s_per_gb", "cpu_sys_s_per_gb", "cpu_us_per_request",
          "client_cpu_s_per_gb", "rss_peak_mb")
UNITS = {
    "records_per_s": "records/s", "plain_per_s": "records/s without commits", "share": "of the rate without commits",
    "mb_per_s": "MB/s", "cpu_s_per_gb": "broker CPU s/GB", "cpu_user_s_per_gb": "… in user space",
    "cpu_sys_s_per_gb": "… in the kernel", "cpu_us_per_request": "broker CPU µs/request",
    "client_cpu_s_per_gb": "client CPU s/GB", "rss_peak_mb": "peak RSS MB", "rss_mb": "RSS MB",
    "create_s": "created, s", "first_records_s": "a record in each, s",
    "create_cpu_s": "… broker CPU, s", "first_records_cpu_s": "… broker CPU s", "empty_rss_mb": "RSS when created, MB",
    "restart_ms": "restart to first ack, ms", "killed_restart_ms": "kill -9 to first ack, ms",
    "listens_ms": "listens, ms", "acked_ms": "first ack, ms", "idle_cpu_percent": "CPU when idle, %",
    "full_rss_mb": "RSS after the log was written, MB", "log_gb": "log, GB", "acked": "records acknowledged",
    "lost": "of these lost", "duplicated": "duplicated",
}
TIMES = {"e2e": "end to end", "ack": "acknowledged", "transaction": "transaction", "commit": "commit"}


def derive(trial):
    """Adds what follows from a trial's numbers."""
    cpu = trial.get("broker_user_s", 0) + trial.get("broker_sys_s", 0)
    derived = dict(trial)
    if trial.get("bytes"):
        gb = trial["bytes"] / 1e9
        derived["cpu_s_per_gb"] = cpu / gb
        derived["cpu_user_s_per_gb"] = trial["broker_user_s"] / gb
        derived["cpu_sys_s_per_gb"] = trial["broker_sys_s"] / gb
        derived["client_cpu_s_per_gb"] = trial.get("client_cpu_s", 0) / gb
    if trial.get("requests"):
        derived["cpu_us_per_request"] = cpu * 1e6 / trial["requests"]
    if trial.get("wall_s"):
        derived["stolen_percent"] = 100 * trial["stolen_s"] / trial["wall_s"]
        derived["others_percent"] = 100 * max(trial["others_s"], 0) / trial["wall_s"]
    return derived


def advantage(metric, ours, theirs):
    """How many times better `ours` is. `None`: there is nothing to compare."""
    if ours is None or theirs is None:
        return None
    if metric not in MORE_IS_BETTER:
        ours, theirs = theirs, ours
    return ours / theirs if theirs > 0 else None


def advantages(rounds, metric, arm, other):
    found = (advantage(metric, one.get(arm, {}).get(metric), one.get(other, {}).get(metric)) for one in rounds)
    return [times for times in found if times is not None]


def values(rounds, arm, metric):
    return [one[arm][metric] for one in rounds if one.get(arm, {}).get(metric) is not None]


def other_name(arms, role, judged):
    """The arm that plays `role` (`kafka`, or `ours` without syncs) beside `judged`: of two Kafkas the one that promises
    the same."""
    same = role + "-durable" if judged.endswith("-durable") else role
    wanted = [name for name in (same, role) if name != judged and name in arms]
    return next(iter(wanted), next((arm for arm in arms if arm.startswith(role)), None))


def is_met(bound, asked, found):
    """Whether each of the numbers meets what is asked of it."""
    more = bound.against is not None or bound.metric in MORE_IS_BETTER
    return [number >= asked if more else number <= asked for number in found]


def verdict(bound, asked, found):
    if asked is None or not found:
        return "–"
    each = is_met(bound, asked, found)
    if all(each):
        return "met"
    if is_met(bound, asked, [median(found)])[0]:
        return f"met by the median, {sum(each)} of {len(each)} rounds"
    return "missed"


def number(value):
    """Three or four digits, whatever the size."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def spread(found, sign=""):
    if not found:
        return "–"
    middle = number(median(found)) + sign
    return middle if len(found) == 1 else f"{middle} [{number(min(found))}..{number(max(found))}]"


def unit(metric):
    for prefix, words in TIMES.items():
        if metric.startswith(prefix + "_") and metric.endswith("_us"):
            return f"{words} {metric.split('_')[1].replace('p999', 'p99.9')}, µs"
    return UNITS.get(metric, metric)


def ours_of(arms):
    return next((arm for arm in arms if arm.startswith("ours")), arms[0])


def metric_rows(case, rounds):
    """A row per metric: each arm's median and range, and our advantages."""
    ours = ours_of(case.arms)
    rows = []
    for metric in case.metrics or COMMON:
        per_arm = [spread(values(rounds, arm, metric)) for arm in case.arms]
        if all(cell == "–" for cell in per_arm):
            continue
        times = [spread(advantages(rounds, metric, ours, arm), "×") for arm in case.arms if arm != ours]
        rows.append([unit(metric), *per_arm, *times])
    return rows


def bound_rows(case, rounds):
    """A row per bound, for each of our arms that is judged."""
    judged = case.judged or (ours_of(case.arms),)
    rows = (bound_row(case, rounds, bound, arm) for bound in case.bounds for arm in judged)
    return [row for row in rows if row]


def bound_row(case, rounds, bound, arm):
    what, found = f"{arm}: {unit(bound.metric)}", values(rounds, arm, bound.metric)
    if bound.against:
        other = other_name(case.arms, bound.against, arm)
        if other is None or other == arm:
            return None
        what += f", times better than {other}"
        found = advantages(rounds, bound.metric, arm, other)
    sign = "≥ " if bound.against or bound.metric in MORE_IS_BETTER else "≤ "
    asked = [sign + number(it) if it is not None else "–" for it in (bound.floor, bound.goal)]
    return [what, spread(found), asked[0], verdict(bound, bound.floor, found), asked[1], verdict(bound, bound.goal, found)]


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def conditions(case, rounds):
    """One line on what else happened: who was short of processor or of warm memory."""
    told = []
    for arm in case.arms:
        reported = values(rounds, arm, "reported_mib")
        stolen = values(rounds, arm, "stolen_percent")
        others = values(rounds, arm, "others_percent")
        if reported and others:
            told.append(f"{arm}: {number(median(others))} %, stolen {number(median(stolen))} %, "
                        f"{number(max(reported))} MiB given back")
    return "Of a processor others had, by the median: " + "; ".join(told) if told else ""


def case_markdown(case, rounds, stamp):
    ours = ours_of(case.arms)
    heads = ["", *case.arms, *(f"{ours} vs {arm}" for arm in case.arms if arm != ours)]
    lines = [f"### {case.workload}: {case.name}", "", stamp, "", *table(heads, metric_rows(case, rounds)), ""]
    asked = bound_rows(case, rounds)
    if asked:
        lines += table(["asked", "found", "floor", "", "goal", ""], asked) + [""]
    told = conditions(case, rounds)
    return lines + ([f"{len(rounds)} rounds. {told}.", ""] if told else [f"{len(rounds)} rounds.", ""])

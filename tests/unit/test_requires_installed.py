"""What is installed with a wheel, out of a queue of jobs."""

from __future__ import annotations

from farm.requires import (
    OrderedJob,
    installed_with,
    queue_of,
)
from tests.unit.plankit import spec


def wheel(title: str, *run: str) -> OrderedJob:
    project, version = title.split()
    metadata = f"Metadata-Version: 2.4\nName: {project}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {text}\n" for text in run)
    return OrderedJob.of_wheel(spec(project, version), metadata.encode())


def pip_takes(one: OrderedJob, *others: OrderedJob, also: tuple[str, ...] = ()) -> set[str]:
    titles = {other.job_id: other.title for other in others}
    return {titles[job_id] for job_id in installed_with(one, also, queue_of((one, *others)))}


def test_a_wheels_metadata_says_what_is_installed_with_it() -> None:
    base, tool = wheel("base 1.0"), wheel("tool 1.0")
    assert pip_takes(wheel("one 1.0", "Base>=1"), base, tool) == {"base 1.0"}
    assert pip_takes(wheel("one 1.0", "base>=2"), base) == set()
    assert pip_takes(wheel("one 1.0", "middle"), base, wheel("middle 1.0", "base")) == {
        "base 1.0",
        "middle 1.0",
    }
    assert pip_takes(wheel("one 1.0"), base, tool, also=("tool",)) == {"tool 1.0"}


def test_markers_are_about_the_user_of_a_board() -> None:
    base = wheel("base 1.0")
    assert pip_takes(wheel("one 1.0", "base; platform_machine == 'riscv64'"), base) == {"base 1.0"}
    assert pip_takes(wheel("one 1.0", "base; platform_machine == 'x86_64'"), base) == set()
    assert pip_takes(wheel("one 1.0", "base; python_version < '3.13'"), base) == set()


def test_extras_count_where_they_are_asked_for() -> None:
    base = wheel("base 1.0")
    one = wheel("one 1.0", "base; extra == 'fast'", "one[fast]; extra == 'all'")
    assert pip_takes(one, base) == set()
    assert pip_takes(one, base, also=("one[all]",)) == {"base 1.0"}
    assert pip_takes(wheel("upper 1.0", "one[fast]"), one, base) == {"one 1.0", "base 1.0"}
    assert pip_takes(wheel("upper 1.0", "one"), one, base) == {"one 1.0"}


def test_a_circle_ends_and_the_job_itself_is_not_in_it() -> None:
    assert pip_takes(wheel("one 1.0", "two"), wheel("two 1.0", "one")) == {"two 1.0"}

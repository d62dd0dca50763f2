"""Who is proved when: whatever the needs are, nothing waits for ever, and nothing is published half."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from farm.dispatch.staging import Decision, Item, Phase, blocked, decide

A, B, C = "abc"


def ahead(name: str, *after: str) -> Item:
    return Item(name, Phase.AHEAD, after=frozenset(after))


def staged(name: str, *needs: str) -> Item:
    return Item(name, Phase.STAGED, needs=frozenset(needs))


def proved(name: str, *relies_on: str) -> Item:
    return Item(name, Phase.PROVED, relies_on=frozenset(relies_on))


def sets(**named: str) -> dict[str, frozenset[str]]:
    return {name: frozenset(others) for name, others in named.items()}


def test_a_proof_waits_for_what_is_still_to_be_built() -> None:
    assert decide([staged(A, B), ahead(B)]) == Decision(wait=sets(a="b"))


def test_a_wheel_is_not_blamed_for_another_ones_fault() -> None:
    assert decide([staged(A, B), staged(B)]) == Decision(prove=sets(b=""), wait=sets(a="b"))


def test_what_was_proved_lies_beside() -> None:
    assert decide([staged(A, B), proved(B)]).prove == sets(a="b")


def test_what_has_ended_is_not_waited_for() -> None:
    assert decide([staged(A, B)]).prove == sets(a="")


def test_those_that_need_each_other_are_proved_together() -> None:
    assert decide([staged(A, B), ahead(B)]).prove == {}
    assert decide([staged(A, B), staged(B, A)]).prove == sets(a="b", b="a")


def test_what_can_only_be_built_after_it_is_left_out() -> None:
    assert decide([staged(A, B), ahead(B, A)]).prove == sets(a="")
    assert decide([staged(A, B), ahead(B, C), ahead(C, A)]).prove == sets(a="")


def test_published_is_what_relies_on_nothing_unproved() -> None:
    decision = decide([proved(A, B), staged(B), proved(C)])
    assert decision.publish == (frozenset(C),)
    assert decision.wait == sets(a="b")


def test_needs_are_published_first_and_a_circle_at_once() -> None:
    assert decide([proved(A, B, C), proved(B, C), proved(C, B)]).publish == (frozenset("bc"), frozenset(A))


def test_a_proof_with_a_wheel_that_is_gone_does_not_count() -> None:
    decision = decide([replace(proved(A), stale=True), proved(B, A)])
    assert decision.again == {A}
    assert decision.publish == ()


def test_held_is_named_to_all_who_wait_for_it() -> None:
    decision = decide([replace(staged(A), held=True), staged(B, A), staged(C, B, A), staged("d")])
    assert decision.prove == sets(d="")
    assert blocked(decision, frozenset(A)) == {B: A, C: A}


@dataclass
class Farm:
    """A farm on paper: builds and proofs that end as a draw says, in the order that a draw says."""

    needs: dict[str, frozenset[str]]
    after: dict[str, frozenset[str]]
    builds: dict[str, bool]
    good: dict[str, bool]
    phase: dict[str, Phase] = field(default_factory=dict)
    relies_on: dict[str, frozenset[str]] = field(default_factory=dict)
    published: list[frozenset[str]] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)

    def items(self) -> list[Item]:
        return [
            Item(
                name,
                phase,
                needs=self.needs[name] if phase is not Phase.AHEAD else frozenset(),
                after=self.after[name] & self.phase.keys() if phase is Phase.AHEAD else frozenset(),
                relies_on=self.relies_on[name] & self.phase.keys() if phase is Phase.PROVED else frozenset(),
                stale=phase is Phase.PROVED and bool(self.relies_on[name] & self.failed),
            )
            for name, phase in self.phase.items()
        ]

    def moves(self, decision: Decision) -> list[tuple[str, str]]:
        """What can happen next."""
        free = [
            name
            for name, phase in self.phase.items()
            if phase is Phase.AHEAD and not self.after[name] & self.phase.keys()
        ]
        return sorted(
            [
                *(("build", name) for name in free),
                *(("prove", name) for name in decision.prove),
                *(("again", name) for name in decision.again),
                *([("publish", "")] if decision.publish else []),
            ]
        )

    def move(self, decision: Decision, what: str, name: str) -> None:
        if what == "publish":
            for group in decision.publish:
                for one in group:
                    # A user's pip must find what the proof took: in the index, or brought at once.
                    assert not self.relies_on[one] - {n for g in self.published for n in g} - group
                    del self.phase[one]
                self.published.append(group)
        elif what == "again":
            self.phase[name] = Phase.STAGED
        elif what == "build":
            self._end(name, Phase.STAGED, ok=self.builds[name])
        else:
            beside = decision.prove[name]
            assert all(self.phase[other] is not Phase.AHEAD for other in beside)
            self.relies_on[name] = beside
            self._end(name, Phase.PROVED, ok=self.good[name])

    def _end(self, name: str, phase: Phase, *, ok: bool) -> None:
        if ok:
            self.phase[name] = phase
        else:
            del self.phase[name]
            self.failed.add(name)


NAMES = "abcdef"
SUBSETS = st.frozensets(st.sampled_from(NAMES), max_size=3)


@given(st.data())
def test_everything_ends_whatever_needs_what(data: st.DataObject) -> None:
    """Builds are in an order (circles among them are refused elsewhere); needs at run time are not."""
    after = {
        name: data.draw(SUBSETS, label=f"{name} is built after") & set(NAMES[:at])
        for at, name in enumerate(NAMES)
    }
    farm = Farm(
        needs={name: data.draw(SUBSETS, label=f"{name} needs") - {name} for name in NAMES},
        after=after,
        builds={name: data.draw(st.booleans() | st.just(True)) for name in NAMES},
        good={name: data.draw(st.booleans() | st.just(True)) for name in NAMES},
        phase=dict.fromkeys(NAMES, Phase.AHEAD),
    )
    for _ in range(200):
        decision = decide(farm.items())
        moves = farm.moves(decision)
        if not moves:
            break
        farm.move(decision, *data.draw(st.sampled_from(moves)))
    assert not farm.phase, "something waits for ever"
    assert {name for group in farm.published for name in group} | farm.failed == set(NAMES)

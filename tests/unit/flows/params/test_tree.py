import pytest

from flows.params.tree import Node, Origin, assign, format_path, lookup, merge, parse_path, without

HERE = Origin("f.yaml", 1)
THERE = Origin("g.yaml", 9)


def node(value: object, origin: Origin = HERE) -> Node:
    if isinstance(value, dict):
        return Node({k: node(v, origin) for k, v in value.items()}, origin)
    if isinstance(value, list):
        return Node([node(v, origin) for v in value], origin)
    return Node(value, origin)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("fusion.lr", ("fusion", "lr")),
        ("fusion.schedules.mine[1].lr", ("fusion", "schedules", "mine", 1, "lr")),
        ("a[0][12]", ("a", 0, 12)),
        ('runtime.endpoints["vicuna-7b-v1.5"]', ("runtime", "endpoints", "vicuna-7b-v1.5")),
        ("runtime.endpoints['a b']", ("runtime", "endpoints", "a b")),
        ("a.0.b", ("a", "0", "b")),
        ("max-new_tokens2", ("max-new_tokens2",)),
    ],
)
def test_paths_are_read(text: str, path: tuple[str | int, ...]) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize("text", ["", ".a", "a.", "a..b", "a[x]", "a[1", "a b", "a[1]b", "a[]", "[-1]", "[0]", "a.[0]"])
def test_bad_paths_are_refused(text: str) -> None:
    assert parse_path(text) is None


def test_paths_are_written_as_a_user_would() -> None:
    assert format_path(("fusion", "schedules", "mine", 1, "lr")) == "fusion.schedules.mine[1].lr"
    assert format_path(("runtime", "endpoints", "v1.5")) == 'runtime.endpoints["v1.5"]'


def test_merge_is_deep_for_mappings_and_whole_for_the_rest() -> None:
    merged = merge(
        node({"a": {"x": 1, "y": 2}, "l": [{"n": 1}, {"n": 2}], "s": 1}), node({"a": {"y": 3}, "l": [{"m": 1}]}, THERE)
    )
    assert merged.plain() == {"a": {"x": 1, "y": 3}, "l": [{"m": 1}], "s": 1}
    found = dict(merged.walk())
    assert found["a", "x"].origin == HERE
    assert found["a", "y"].origin == THERE
    assert found["a",].origin == HERE


@pytest.mark.parametrize("overlay", [None, 3, [1]])
def test_merge_replaces_a_mapping_by_what_is_none(overlay: object) -> None:
    assert merge(node({"a": {"x": 1}}), node({"a": overlay})).plain() == {"a": overlay}


@pytest.mark.parametrize(
    ("before", "path", "value", "after"),
    [
        ({}, ("a", "b", "c"), 1, {"a": {"b": {"c": 1}}}),
        ({"a": None}, ("a", "b"), 1, {"a": {"b": 1}}),
        ({"a": [1, 2]}, ("a", 1), 5, {"a": [1, 5]}),
        ({"a": [1, 2]}, ("a", "1"), 5, {"a": [1, 5]}),
        ({"a": [1]}, ("a", 1), 5, {"a": [1, 5]}),  # one past the end appends
        ({"a": [{"x": 1, "y": 1}]}, ("a", 0, "x"), 2, {"a": [{"x": 2, "y": 1}]}),
        ({}, ("a", 0, "x"), 2, {"a": [{"x": 2}]}),
        ({"a": {"x": 1}}, ("a",), {"y": 2}, {"a": {"x": 1, "y": 2}}),  # a mapping merges, as in a profile
        ({"a": {"0": 1}}, ("a", "0"), 2, {"a": {"0": 2}}),
    ],
)
def test_assign(before: object, path: tuple[str | int, ...], value: object, after: object) -> None:
    tree = node(before)
    assert assign(tree, path, node(value, THERE)).plain() == after
    assert tree.plain() == before


@pytest.mark.parametrize(
    ("before", "path", "message"),
    [
        ({"a": 1}, ("a", "b"), r"`a` is a single value, so `a\.b` cannot be set"),
        ({"a": [1]}, ("a", "b"), r"`a` is a list, so `a\.b` cannot be set"),
        ({"a": [1]}, ("a", 3), r"`a` has 1 entries, so `a\[3\]` cannot be set"),
        ({"a": {"b": 1}}, ("a", 0), r"`a` is not a list, so `a\[0\]` cannot be set"),
    ],
)
def test_assign_refuses_what_does_not_fit(before: object, path: tuple[str | int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign(node(before), path, node(1))


def test_lookup_finds_the_deepest_node() -> None:
    tree = node({"a": [{"b": 1}]})
    assert lookup(tree, ("a", 0, "c"))[1] == ("a", 0)
    assert lookup(tree, ("a", 0, "b"))[0].value == 1


def test_without_removes_only_that_key() -> None:
    tree = node({"a": [{"b": 1, "c": 2}], "d": 3})
    assert without(tree, ("a", 0, "b")).plain() == {"a": [{"c": 2}], "d": 3}
    assert without(tree, ("d",)).plain() == {"a": [{"b": 1, "c": 2}]}
    assert without(tree, ("x", "y")).plain() == tree.plain()

from hypothesis import given
from hypothesis import strategies as st

from flows.params.tree import KeyPath, Node, Origin, assign, format_path, lookup, merge, parse_path
from flows.params.yaml_tree import parse_yaml

HERE = Origin("f.yaml", 1)
KEYS = st.text(st.characters(codec="ascii", exclude_characters="'"), min_size=1, max_size=6).filter(lambda k: not k.isdigit())
PATHS = st.tuples(KEYS, st.lists(st.one_of(KEYS, st.integers(0, 30)), max_size=4)).map(lambda p: (p[0], *p[1]))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)
)
TREES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.dictionaries(KEYS, inner, max_size=3), st.lists(inner, max_size=3)), max_leaves=8
)
MAPPINGS = st.dictionaries(KEYS, TREES, max_size=4)


def node(value: object) -> Node:
    if isinstance(value, dict):
        return Node({k: node(v) for k, v in value.items()}, HERE)
    if isinstance(value, list):
        return Node([node(v) for v in value], HERE)
    return Node(value, HERE)  # type: ignore[arg-type]


@given(PATHS)
def test_a_written_path_is_read_back(path: KeyPath) -> None:
    assert parse_path(format_path(path)) == path


@given(MAPPINGS, MAPPINGS)
def test_merge_keeps_every_key_and_the_overlay_wins_at_its_leaves(base: dict[str, object], overlay: dict[str, object]) -> None:
    merged = merge(node(base), node(overlay))
    assert merged.mapping is not None
    assert set(merged.mapping) == set(base) | set(overlay)
    for path, leaf in node(overlay).walk():
        if leaf.mapping is None:
            found, where = lookup(merged, path)
            assert where == path
            assert found.plain() == leaf.plain()


@given(MAPPINGS)
def test_merge_with_itself_or_nothing_changes_nothing(tree: dict[str, object]) -> None:
    assert merge(node(tree), node(tree)).plain() == tree
    assert merge(node(tree), node({})).plain() == tree


@given(MAPPINGS, st.data())
def test_assigning_an_existing_leaf_changes_it_alone(tree: dict[str, object], data: st.DataObject) -> None:
    leaves = [path for path, leaf in node(tree).walk() if path and leaf.mapping is None]
    if not leaves:
        return
    path = data.draw(st.sampled_from(leaves))
    changed = assign(node(tree), path, Node("new", HERE))
    assert lookup(changed, path)[0].plain() == "new"
    others = {p: n.plain() for p, n in node(tree).walk() if n.mapping is None and n.items is None and p[: len(path)] != path}
    assert all(lookup(changed, p)[0].plain() == value for p, value in others.items())


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused_as_params_error(text: str) -> None:
    from models.errors import ParamsError

    try:
        parse_yaml(text, "f.yaml").plain()
    except ParamsError as error:
        assert "f.yaml" in str(error)

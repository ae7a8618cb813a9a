"""Token ids that are remembered."""

import threading

from models.generation.token_memo import TokenMemo


def test_new_texts_are_encoded_in_one_call_and_the_oldest_go_first() -> None:
    calls: list[list[str]] = []
    memo = TokenMemo(lambda texts: calls.append(texts) or [[len(text)] for text in texts], most=2)
    assert memo.many(["a", "bb", "a"]) == {"a": [1], "bb": [2]} and calls == [["a", "bb"]]
    assert memo.one("a") == [1] and len(calls) == 1
    assert memo.many(["ccc", "a"]) == {"ccc": [3], "a": [1]} and calls[1:] == [["ccc"]], "`bb` was asked for longest ago"
    assert memo.one("bb") == [2] and calls[2:] == [["bb"]]
    assert memo.many([]) == {} and len(calls) == 3


def test_more_texts_than_are_remembered_all_get_their_ids() -> None:
    memo = TokenMemo(lambda texts: [[int(text)] for text in texts], most=3)
    assert memo.many([str(i) for i in range(10)]) == {str(i): [i] for i in range(10)}


def test_threads_share_it() -> None:
    memo, wrong = TokenMemo(lambda texts: [[int(text)] for text in texts], most=5), []

    def ask(seed: int) -> None:
        for step in range(300):
            texts = [str((seed * step + i) % 17) for i in range(4)]
            wrong.extend(t for t, ids in memo.many(texts).items() if ids != [int(t)])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in (3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

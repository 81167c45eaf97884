"""Which kernel is used, found out with candidates that are made up."""

import logging

import pytest
import torch
from torch import distributed

from mmtlalign.alignment.kernels import (
    ShareAttention,
    choice,
    fused_share_attention,
    padded_share_attention,
    separate_share_attention,
    windows,
)

CPU = torch.device('cpu')
CASE = choice.Case(CPU, torch.float32, 3, 9, 9, 16, True)


def good(*args):
    return padded_share_attention(*args)


def other(*args):
    return separate_share_attention(*args)


def bent(change):
    """A kernel of which features, shares and carried values are changed."""
    return lambda query, *args: change(query, *good(query, *args))


def raises(*args):
    raise RuntimeError('no kernel image\nfor this device')


def choose(timer=None, **kernels):
    loaders = {name: lambda kernel=kernel: kernel for name, kernel in kernels.items()}
    return choice.choose(loaders, lambda kernel: choice._gap(kernel, CASE), timer, 'a device')


def timer(**times):
    return lambda kernel: times[kernel.__name__]


wrong_share = bent(lambda query, out, mixed, carried: (out, mixed + 0.01, carried))


@pytest.mark.parametrize(
    'kernel, word',
    [
        (wrong_share, 'differs from the public function by 1.0e-02'),
        (bent(lambda _, out, mixed, own: (out, mixed * float('nan'), own)), 'by nan'),
        (bent(lambda q, out, mixed, own: (out + q - q.detach(), mixed, own)), 'differs from'),
        (bent(lambda _, out, mixed, own: (out, mixed, own + 1e-3)), 'by 1.0e-03'),
        (raises, 'RuntimeError: no kernel image'),
    ],
    ids=['share', 'not finite', 'gradient', 'carried', 'raises'],
)
def test_what_is_not_sound_is_left_out_with_the_reason(logged, kernel, word):
    assert choose(first=kernel, second=good) is good
    ((level, line),) = logged
    assert level == logging.WARNING and '\n' not in line
    assert 'first left out: ' in line and word in line
    assert 'go through second (' in line


def test_the_order_decides_where_nothing_is_timed(logged):
    assert choose(first=good, second=raises) is good
    ((level, line),) = logged  # the second was not even tried
    assert level == logging.INFO and 'second' not in line


def test_the_fastest_is_kept_but_for_five_percent(logged):
    assert choose(timer(good=1.04, other=1.0), a=good, b=other) is good
    assert choose(timer(good=1.06, other=1.0), a=good, b=other) is other
    assert choose(timer(good=2.0, other=1.0, raises=0.0), a=good, b=other, c=raises) is other
    assert 'go through b (a off by' in logged[-1][1]
    assert '2000000 us; b off by' in logged[-1][1]
    # what cannot be timed, out of memory maybe, is left out
    assert choose(timer(other=1.0), a=good, b=other) is other
    assert "a left out: KeyError: 'good'" in logged[-1][1]


def test_the_public_function_is_left_where_nothing_is_sound(logged):
    assert choose(a=raises, b=wrong_share) is wrong_share
    assert logged[0][0] == logging.WARNING
    with pytest.raises(
        RuntimeError, match='no kernel for shares works on a device: a left out: RuntimeError'
    ):
        choose(a=raises)


def test_ranks_take_the_choice_of_rank_0(logged, monkeypatch):
    said = []

    def broadcast(names, src):
        said.append((names[0], src))
        names[0] = 'b'

    monkeypatch.setattr(distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(distributed, 'broadcast_object_list', broadcast)
    assert choose(timer(good=1.0, other=9.0), a=good, b=other) is other
    # it does not work here
    assert choose(timer(good=1.0, raises=9.0), a=good, b=raises) is good
    # what is not timed needs no word: the order is that of all
    assert choose(a=good, b=other) is good
    assert said == [('a', 0), ('a', 0)]


def test_forced_by_name(logged, monkeypatch):
    monkeypatch.setenv('MMTLALIGN_KERNEL', 'separate')
    assert choice.choose_kernel(CASE) is separate_share_attention
    monkeypatch.setenv('MMTLALIGN_KERNEL', 'padded')
    assert choice.choose_kernel(CASE) is separate_share_attention  # kept
    choice._chosen.clear()
    assert choice.choose_kernel(CASE) is padded_share_attention
    # a recomputation must meet the stock call
    assert choice.choose_kernel(CASE, beside=True) is separate_share_attention
    choice._chosen.clear()
    monkeypatch.setenv('MMTLALIGN_KERNEL', 'fastest')
    with pytest.raises(
        ValueError,
        match='MMTLALIGN_KERNEL=fastest is unknown;'
        ' use one of fused, triton, triton_flash, separate, ',
    ):
        choice.choose_kernel(CASE)
    monkeypatch.setenv('MMTLALIGN_KERNEL', 'padded')
    monkeypatch.setitem(choice.KERNELS, 'padded', ('nowhere', 'nothing'))
    with pytest.raises(RuntimeError, match='padded left out: ModuleNotFound'):
        choice.choose_kernel(CASE)


def test_a_choice_is_made_once_for_a_case_and_moves_no_random_state(logged):
    state = torch.get_rng_state()
    for case in (CASE, CASE, CASE._replace(num_keys=4)):
        assert choice.choose_kernel(case) is fused_share_attention
    assert len(logged) == 1  # a shape is no case where nothing is timed
    assert torch.equal(state, torch.get_rng_state())


@pytest.fixture
def pretended(logged, monkeypatch):
    """A device of which kernels are timed: cases that were timed."""
    cases = []

    def time(kernel, case, batch):
        cases.append((kernel.__name__, case, batch))
        return 1.0

    monkeypatch.setattr(choice, 'TIMED', ('cpu',))
    monkeypatch.setattr(choice, '_time', time)
    return cases


def test_kernels_are_timed_at_the_shape_that_is_there(pretended, logged):
    attend = ShareAttention()
    attend.prepare(CPU)
    assert not pretended

    def run(batch, tokens, carry=False):
        query, key, value = torch.randn(3, batch, 2, tokens, 8, requires_grad=True)
        return attend(query, key, value, torch.rand(batch, tokens), None, carry)

    for batch, tokens in ((2, 5), (3, 5), (2, 7)):
        run(batch, tokens)
    timed = [
        (case.num_queries, batch) for name, case, batch in pretended if name.startswith('fused')
    ]
    assert timed == [(5, 2), (7, 2)]  # the batch makes no case
    assert len(pretended) == 2 * len(choice.ORDER['cpu'])
    run(2, 5, True)
    assert pretended[-1][1].carry
    count = len(pretended)
    with torch.no_grad():  # as inside checkpointing
        run(2, 9)
    with torch.autocast('cpu', torch.bfloat16):
        run(2, 5)
    assert pretended[-1][1].dtype == torch.bfloat16
    assert {case.num_queries for _, case, _ in pretended[count:]} == {5}


def test_windows_are_read_by_what_is_fastest(pretended, logged, monkeypatch):
    monkeypatch.setattr(choice, 'seconds', lambda run: float(run() is None))
    matrix, channels = torch.randn(3, 2, 4, 4).softmax(-1), torch.rand(3, 4, 2)
    found = windows.attend_windows(matrix, channels)
    torch.testing.assert_close(found, windows.mean_heads_of_windows(matrix, channels))
    ((_, line),) = logged
    assert line.startswith('Shares on cpu, torch.float32, 2, 4, 4, windows go through ')


def test_where_nothing_can_be_tried_what_is_not_known_takes_two_calls(pretended, monkeypatch):
    attend = ShareAttention()
    query, key, value = torch.randn(3, 2, 2, 5, 8)
    with torch.no_grad():
        kernel = attend._kernel_for(query, key, False)
        assert kernel is separate_share_attention  # nothing is prepared
        attend.prepare(CPU)
        assert attend._kernel_for(query, key, False) is attend.beside
        monkeypatch.setattr(attend, 'beside', good)
        assert attend._kernel_for(query, key, False) is good
        # another precision than that of the check
        kernel = attend._kernel_for(query.half(), key.half(), False)
        assert kernel is separate_share_attention
    assert not pretended


@pytest.mark.slow
def test_nothing_is_timed_while_compiling(pretended):
    attend = ShareAttention()
    attend.prepare(CPU)
    query, key, value = torch.randn(3, 2, 2, 5, 8, requires_grad=True)
    share = torch.rand(2, 5)
    run = torch.compile(attend.__call__, backend='eager', fullgraph=True)
    out, mixed, _ = run(query, key, value, share)
    assert not pretended
    torch.testing.assert_close(mixed, good(query, key, value, share)[1])

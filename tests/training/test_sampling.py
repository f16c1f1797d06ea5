import pytest
from hypothesis import given
from hypothesis import strategies as st
from mobilevision.training.sampling import EpochSampler, SampleKey, sample_seed


def samples(sampler: EpochSampler) -> list[int]:
    return [key.sample for key in sampler]


def test_without_shuffling_samples_come_in_order_in_every_epoch() -> None:
    sampler = EpochSampler(4, shuffle=False)
    assert list(sampler) == [SampleKey(0, 0), SampleKey(0, 1), SampleKey(0, 2), SampleKey(0, 3)]
    sampler.set_epoch(7)
    assert list(sampler) == [SampleKey(7, 0), SampleKey(7, 1), SampleKey(7, 2), SampleKey(7, 3)]


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            first, second = (EpochSampler(50, shuffle=True, seed=seed) for _ in range(2))
            for sampler in (first, second):
                sampler.set_epoch(epoch)
            assert samples(first) == samples(second)
            orders[seed, epoch] = tuple(samples(first))
    # Seed and epoch are added up before they seed the order.
    assert len(set(orders.values())) == 3


@pytest.mark.parametrize("shuffle", [True, False])
@given(num_samples=st.integers(1, 40), world_size=st.integers(1, 5), epoch=st.integers(0, 9))
def test_the_shares_are_even_and_cover_everything(shuffle: bool, num_samples: int, world_size: int, epoch: int) -> None:
    shares = []
    for rank in range(world_size):
        sampler = EpochSampler(num_samples, shuffle=shuffle, rank=rank, world_size=world_size)
        sampler.set_epoch(epoch)
        shares.append(samples(sampler))
        assert len(sampler) == len(shares[-1]) == -(-num_samples // world_size)
    together = [sample for share in shares for sample in share]
    assert set(together) == set(range(num_samples))
    assert len(together) - num_samples < world_size


def test_no_samples_make_no_keys() -> None:
    assert list(EpochSampler(0, shuffle=True)) == []


@given(skip=st.integers(0, 12))
def test_skipping_leaves_the_first_keys_out_once(skip: int) -> None:
    sampler = EpochSampler(10, shuffle=True)
    whole = list(sampler)
    sampler.skip = skip
    assert list(sampler) == whole[skip:]
    assert list(sampler) == whole


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 10**6), st.integers(0, 10**8)), unique=True))
def test_the_seed_of_a_sample_depends_on_run_epoch_and_sample(places: list[tuple[int, int, int]]) -> None:
    seeds = [sample_seed(seed, SampleKey(epoch, sample)) for seed, epoch, sample in places]
    assert seeds == [sample_seed(seed, SampleKey(epoch, sample)) for seed, epoch, sample in places]
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert len(set(seeds)) == len(seeds)


def test_neighbouring_samples_and_epochs_share_no_seed() -> None:
    seeds = {
        sample_seed(run, SampleKey(epoch, sample)) for run in range(5) for epoch in range(20) for sample in range(50)
    }
    # 5000 draws out of 2^32 meet with a probability of 0.3%; these do not.
    assert len(seeds) == 5000

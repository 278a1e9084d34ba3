from dataclasses import asdict

import pytest

from dyga.config import (
    DATASETS,
    DEPARTURES,
    PROFILES,
    VARIANTS,
    Config,
    dataset_slug,
    from_json,
    make_config,
    parse_numbers,
    parse_variants,
)


def test_every_departure_of_quick_from_the_paper_has_its_reason():
    paper, quick = asdict(Config()), asdict(Config(**PROFILES["quick"]))
    assert {name for name in paper if paper[name] != quick[name]} == set(DEPARTURES)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_json_round_trip(profile, variant):
    config = make_config(profile, variant=variant, seed=3)
    assert from_json(config.to_json()) == config


def test_variants_differ_only_in_what_they_are_named_after():
    ideas = {"variant", "skip_dropout", "anchoring", "decorrelation", "kurtosis"}
    anchors = {"alignment", "levels", "unit_scalars", "anchoring_from", "anchoring_until"}
    anchors |= {"prune_loss", "prune_redundant", "join"}
    full = asdict(make_config(variant="full"))
    for variant in VARIANTS:
        other = asdict(make_config(variant=variant))
        allowed = ideas | (anchors if "_" in variant or variant in ("planar", "pruned") else set())
        assert {name for name in full if full[name] != other[name]} <= allowed
    assert full["skip_dropout"] and full["anchoring"] and not full["decorrelation"]
    encdiff = make_config(variant="encdiff")
    assert not (encdiff.skip_dropout or encdiff.anchoring or encdiff.decorrelation)
    assert make_config(variant="decorrelated").decorrelation == make_config(variant="pruned").decorrelation == 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(profile="fast"), "unknown profile 'fast': valid are quick, smoke, long, longer, paper"),
        (
            dict(variant="x"),
            f"unknown variant 'x': valid are {', '.join(VARIANTS)}",
        ),
        (dict(dataset="mnist"), f"unknown data set 'mnist': valid are {', '.join(DATASETS)}, folder:PATH"),
    ],
)
def test_unknown_names_list_the_valid_ones(arguments, message):
    with pytest.raises(ValueError) as error:
        make_config(**arguments)
    assert str(error.value) == message


def test_a_configuration_of_other_settings_is_refused():
    with pytest.raises(ValueError, match="settings differ"):
        from_json('{"profile": "quick"}')


def test_parse_variants():
    assert parse_variants("full,encdiff,full") == ("full", "encdiff")
    assert parse_variants("all") == ("encdiff", "skip_dropout", "anchoring", "full", "decorrelated", "planar", "pruned")
    assert parse_variants("ablation") == tuple(VARIANTS)
    with pytest.raises(ValueError, match="unknown variant '': valid are encdiff"):
        parse_variants("full,")


def test_parse_numbers():
    assert parse_numbers("0-2,5,1", "seeds", 0, 9) == (0, 1, 2, 5)
    for wrong in ("", "a", "3-1", "1-2-3", "10", "-1", "1,,2", "0-9999999999"):
        with pytest.raises(ValueError, match=f"seeds '{wrong}': valid are numbers from 0 to 9"):
            parse_numbers(wrong, "seeds", 0, 9)


def test_dataset_slug():
    assert dataset_slug("rooms3d") == "rooms3d"
    assert dataset_slug("folder:/home/me/pictures/") == "folder-pictures"

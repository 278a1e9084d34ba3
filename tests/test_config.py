import json
import re
from dataclasses import asdict, replace
from unittest.mock import ANY

import pytest

from dyga.config import (
    DATASETS,
    OWN,
    PROFILES,
    VARIANTS,
    Config,
    check_images,
    check_name,
    check_variants,
    describe_settings,
    from_json,
    make_config,
    parse_changes,
    parse_number,
    parse_numbers,
    parse_variants,
    study_name,
)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_departure_from_the_paper_has_its_reason_and_departs(profile):
    paper = asdict(Config())
    settings = PROFILES[profile]
    assert all(reason and settings[name][0] != paper[name] for name, (_, reason) in settings.items() if profile != "smoke")
    for row in describe_settings(make_config(profile, variant="pruned", changes="heads=2")):
        assert row["meaning"] and bool(row["reason"]) == (
            row["value"] != row["paper"] or row["name"] in VARIANTS["pruned"].settings
        )


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_json_round_trip(profile, variant):
    config = make_config(profile, variant=variant, seed=3)
    assert from_json(json.dumps(asdict(config))) == config


def test_variants_differ_only_in_what_they_are_named_after():
    ideas = {"variant", "skip_dropout", "anchoring", "decorrelation", "kurtosis"}
    anchors = {"alignment", "quantiser_values", "scalars_per_unit"}
    anchors |= {"prune_loss_increase", "prune_explained", "merge_dependence"}
    full = asdict(make_config(variant="full"))
    for variant in VARIANTS:
        other = asdict(make_config(variant=variant))
        allowed = ideas | (anchors if "_" in variant or variant in ("two_scalars", "pruned") else set())
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
        (dict(dataset="mnist"), f"unknown data set 'mnist': valid are {', '.join([*DATASETS, *OWN])}"),
    ],
)
def test_unknown_names_list_the_valid_ones(arguments, message):
    with pytest.raises(ValueError) as error:
        make_config(**arguments)
    assert str(error.value) == message


def test_an_unknown_setting_in_json_is_refused_and_a_missing_one_takes_its_default():
    with pytest.raises(ValueError, match="unknown settings stride; made by another version"):
        from_json('{"profile": "quick", "stride": 3}')
    assert from_json('{"profile": "quick"}') == Config(profile="quick")
    for text in ("[]", "{}"):
        with pytest.raises(ValueError, match="config: no settings found"):
            from_json(text)


@pytest.mark.parametrize("row", describe_settings(make_config()), ids=lambda row: row["name"])
def test_every_setting_can_be_set_to_its_own_value(row):
    assert make_config(changes=f"{row['name']}={row['value']}") == replace(make_config(), changes=ANY)


def test_changes_are_parsed_by_type_and_kept_in_the_settings_order():
    changes = "steps=3000, unet_channels=16,32 ,lr=1e-3, transformer=true, skip_dropout_levels=none"
    changes += ", extractor_kernels=(8,4),(4,2),(4,2)"
    config = make_config(changes=changes)
    assert (config.steps, config.unet_channels, config.lr, config.transformer) == (3_000, (16, 32), 0.001, True)
    assert config.skip_dropout_levels is None and config.extractor_kernels == ((8, 4), (4, 2), (4, 2))
    assert parse_changes(config.changes) == parse_changes(changes)
    assert make_config(changes=config.changes) == config


@pytest.mark.parametrize(("changes", "message"), [
    ("stepps=3", "unknown setting 'stepps': the nearest valid ones are steps"),
    ("seed=3", "unknown setting 'seed': use --seed"),
    ("steps", "setting 'steps': valid is NAME=VALUE"),
    ("steps=", "setting steps='': valid is a whole number"),
    ("steps=2.5", "setting steps='2.5': valid is a whole number"),
    ("lr=inf", "setting lr='inf': valid is a finite number"),
    ("lr=0", "lr must be greater than 0"),
    ("steps=0", "setting steps=0: valid is at least 1"),
    ("units=0", "setting units=0: valid is at least 1"),
    ("dropout=1.5", "setting dropout=1.5: valid is from 0 to 0.99"),
    ("loss=l3", "setting loss='l3': valid is l1, mse"),
    ("final_relu=1", "setting final_relu='1': valid is true or false"),
    ("unet_channels=a,b", "setting unet_channels='a,b': valid is whole numbers, as 64,128,256,256"),
    ("unet_channels=(64,128),(64,128)", "setting unet_channels='(64,128),(64,128)': valid is whole numbers"),
    ("unet_channels=", "setting unet_channels='': valid is whole numbers"),
    ("extractor_kernels=4,2", "extractor_kernels=4,2: valid are pairs"),
    ("extractor_channels=8,8", "extractor_kernels and extractor_channels must have the same length"),
    ("attention_levels=0,5", "attention_levels must lie below the 2 levels"),
    ("heads=3", "heads must divide every entry of unet_channels"),
    ("unet_channels=9,9, heads=3", "the first entry of unet_channels must be even"),
    ("extractor_kernels=(5,5),(5,5),(5,5)", "extractor_kernels reduce"),
    ("extractor_kernels=(2,4),(4,2),(4,2)", "extractor_kernels: a stride must not exceed its kernel by more than one"),
    ("skip_dropout=0.2, skip_dropout_levels=0,7", "skip_dropout_levels must lie below the 2 levels"),
    ("scalars_per_unit=2, quantiser_values=10, min_scalars=2", "quantiser_values needs scalars_per_unit=1"),
    ("unet_channels=8,8,8,8,8", "a latent of 8x8 allows at most 4 levels"),
    ("batch=5000", "feature_buffer must be at least as large as batch"),
    ("batch=32, feature_buffer=100", "feature_buffer must be at least 128 with pruning"),
    ("min_scalars=80", "min_scalars must not exceed"),
    ("num_train=19000", "evaluation_images must be at least num_train"),
    ("image_size=48", "setting image_size=48: valid are 32, 64, 128"),
    ("image_size=128", "setting image_size=128: rooms3d has 64x64 images; own data can have another size"),
    ("scalars_per_unit=1", "merge_dependence below 1 needs scalars_per_unit=2 with pruning"),
])  # fmt: skip
def test_bad_changes_are_named(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_config(changes=changes)


def test_a_batch_set_larger_than_the_data_is_refused(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    check_images(make_config("smoke", f"folder:{tmp_path}"))
    with pytest.raises(ValueError, match=r"batch=3: folder:.* has 2 images"):
        check_images(make_config("smoke", f"folder:{tmp_path}", changes="batch=3"))


def test_variants_that_changes_make_equal_are_refused():
    configs = [make_config(variant=variant, changes="anchoring=0") for variant in ("skip_dropout", "full")]
    with pytest.raises(ValueError, match=r"with anchoring=0\.0 the variants skip_dropout and full are the same: leave one out"):
        check_variants(configs)


def test_parse_variants():
    assert parse_variants("full,encdiff,full") == ("full", "encdiff")
    assert parse_variants("all") == ("encdiff", "skip_dropout", "anchoring", "full", "decorrelated", "two_scalars", "pruned")
    assert parse_variants("ablation") == tuple(VARIANTS)
    with pytest.raises(ValueError, match="unknown variant '': valid are encdiff"):
        parse_variants("full,")


def test_parse_number():
    assert parse_number("7", "seed", 0, 9) == 7
    for wrong in ("", "1,2", "1-2", "-1", "10", "one", "1.5"):
        with pytest.raises(ValueError, match=f"seed '{wrong}': valid is one number from 0 to 9"):
            parse_number(wrong, "seed", 0, 9)


def test_parse_numbers():
    assert parse_numbers("0-2,5,1", "seeds", 0, 9) == (0, 1, 2, 5)
    for wrong in ("", "a", "3-1", "1-2-3", "10", "-1", "1,,2", "0-9999999999"):
        with pytest.raises(ValueError, match=f"seeds '{wrong}': valid are numbers from 0 to 9"):
            parse_numbers(wrong, "seeds", 0, 9)


def test_studies_of_different_settings_have_different_folders():
    assert study_name("quick", "rooms3d") == "rooms3d-quick"
    names = [study_name("quick", f"folder:{path}") for path in ("/x/a/pics", "/x/b/pics", "/x/b/Pics", "/x/b/pics-quick", "/")]
    assert len(set(names)) == 5 and all(re.fullmatch(r"folder-[\w.-]*-[0-9a-f]{6}-quick", name) for name in names)
    assert study_name("quick", "folder:/x/b/../a/pics/") == names[0]
    assert study_name("quick", "rooms3d", "units=16, steps=3000") == "rooms3d-quick+units=16+steps=3000"
    for path in ("/x/my pictures", "/x/pics+steps=3000", "/x/rooms3d", "/x/ünï, çödé", "/x/" + 200 * "a"):
        name = study_name("quick", f"folder:{path}", "steps=3000")
        check_name(name)
        assert name.startswith("folder-") and name.count("+") == name.count("=") == 1 and len(name) < 100
    odd = {study_name("quick", "rooms3d", f"extractor_kernels=({n},4),(4,2),(4,2)") for n in (6, 8)}
    assert len(odd) == 2 and all(re.fullmatch(r"[\w+=.,-]+", name) for name in odd)

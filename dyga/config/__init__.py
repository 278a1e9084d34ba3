"""Settings: one frozen dataclass, profiles and variants as named sets of settings. Standard library only."""

# ruff: noqa: F401

from dyga.config.arguments import (
    check_images,
    check_name,
    check_variants,
    check_writable,
    existing_dataset,
    folder_name,
    image_files,
    parse_number,
    parse_numbers,
    parse_variants,
    study_name,
)
from dyga.config.datasets import DATASETS, automatic_min_scalars
from dyga.config.presets import (
    DEFAULT_VARIANTS,
    IMAGE_SUFFIXES,
    OWN,
    PROFILES,
    VARIANTS,
    absolute_dataset,
    describe_settings,
    is_own,
    make_config,
)
from dyga.config.schema import Config, from_json, parse_changes

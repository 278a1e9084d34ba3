"""Settings: one frozen dataclass, profiles and variants as named sets of settings. Standard library only."""

from dyga.config.arguments import (
    check_batch,
    check_name,
    check_variants,
    check_writable,
    existing_dataset,
    folder_name,
    image_files,
    parse_numbers,
    parse_variants,
    study_name,
)
from dyga.config.datasets import DATASETS, automatic_min_scalars
from dyga.config.presets import (
    ALL_VARIANTS,
    DEFAULT_VARIANTS,
    IMAGE_SUFFIXES,
    OWN,
    PROFILES,
    VARIANTS,
    Variant,
    absolute_dataset,
    describe_settings,
    is_own,
    make_config,
)
from dyga.config.schema import Config, from_json, parse_changes, validate

__all__ = [
    "ALL_VARIANTS",
    "DATASETS",
    "DEFAULT_VARIANTS",
    "IMAGE_SUFFIXES",
    "OWN",
    "PROFILES",
    "VARIANTS",
    "Config",
    "Variant",
    "absolute_dataset",
    "automatic_min_scalars",
    "check_batch",
    "check_name",
    "check_variants",
    "check_writable",
    "describe_settings",
    "existing_dataset",
    "folder_name",
    "from_json",
    "image_files",
    "is_own",
    "make_config",
    "parse_changes",
    "parse_numbers",
    "parse_variants",
    "study_name",
    "validate",
]

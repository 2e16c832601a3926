"""Import path that other people's scripts use for renaming checkpoint keys."""

from opencood.models.checkpoint_tools import rename_model_dict_keys

__all__ = ["rename_model_dict_keys"]

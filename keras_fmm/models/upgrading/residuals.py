"""The sums of a model that merge a residual branch with its shortcut."""

from keras_fmm.models.upgrading.default_places import branches, is_sum
from keras_fmm.models.upgrading.structure import is_feature_map


def cannot_be_merged(structure, operation):
    """Returns why no residual can stand in the place of this; None where one can."""
    if not is_sum(operation):
        return f"is of class {type(operation).__name__} and no sum"
    calls = [call for call in structure.calls if call.operation is operation]
    if not calls:
        return "is inside another layer, which is no functional model"
    maps = [structure.calls[source].outputs for call in calls for source in call.sources]
    if any(len(call.sources) != 2 for call in calls):
        return f"sums {max(len(call.sources) for call in calls)} tensors, not two"
    if not all(is_feature_map(outputs) for outputs in maps):
        return "does not sum maps of rank 4"
    if _places_of_branch(structure, operation) not in ({0}, {1}):
        return "sums no branch with weights and a shorter shortcut of the same shape"
    return structure.several_channels(operation)


def branch_is_first(structure, operation):
    """Says whether the branch is the first input of a sum in whose place a residual can stand."""
    return _places_of_branch(structure, operation) == {0}


def _places_of_branch(structure, operation):
    """Returns which inputs of a sum end branches, 0 and 1, and -1 for a call where none does."""
    found = set()
    for call in structure.calls:
        if call.operation is operation:
            ends = branches(structure, call.sources)
            found.add(call.sources.index(ends[0]) if len(ends) == 1 else -1)
    return found

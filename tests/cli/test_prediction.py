"""What a run promises before it starts rests on the same abstentions as the run itself."""

from __future__ import annotations

from hspc_live.cli.score import predicted
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config
from hspc_live.settings.sort import AbstainSettings, KnownStrangers, Outlet, ScoreGate
from hspc_models.card import find_model, load_card


def test_cells_that_are_taken_for_strangers_are_in_no_prediction():
    card = load_card(find_model("twin-lsm"))
    settings = load(shipped_config("rigs/twin_flow"))
    name = card.classes[0]
    outlet = Outlet(name="all", gate=ScoreGate(class_name=name, min=0.0))

    def under(abstain):
        sort = settings.sort.model_copy(update={"outlets": (outlet,), "abstain": abstain})
        return predicted(settings.model_copy(update={"sort": sort}), card, 60.0)

    limit = KnownStrangers(limit=0.25, wrongly=0.05, basis="")
    none = under(AbstainSettings())
    # 0.25 of strangeness is a best score of 0.75: of the card's tables the one of 0.7 is the nearest that promises less
    asked = under(AbstainSettings(min_score=0.75))
    assert under(AbstainSettings(known=limit)) == asked
    assert asked.purity > none.purity and asked.recovery < none.recovery
    assert under(AbstainSettings(known=limit, strangers="ignore")) == none
    assert under(AbstainSettings(known=limit.model_copy(update={"limit": None}))) == none

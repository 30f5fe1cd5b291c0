import re

from clipcurate.languages.table import ALIASES, EDITIONS

# The labels of lid.176, as fastText's documentation lists them.
_LABELS = """
    af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb
    co cs cv cy da de diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he
    hi hif hr hsb ht hu hy ia id ie ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez
    li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms mt mwl my myv mzn nah nap nds ne new nl nn
    no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn sco sd sh si sk sl so sq
    sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf yi yo
    yue zh
"""
LID_176 = _LABELS.split()


def test_codes_are_normalized_and_no_alias_hides_an_edition() -> None:
    assert all(re.fullmatch(r"[a-z]{2,6}(-[a-z]+)*", code) for code in EDITIONS | set(ALIASES))
    assert not EDITIONS & set(ALIASES)
    assert len(EDITIONS) > 320


def test_aliases_lead_to_editions() -> None:
    assert {
        tag for tag in ALIASES.values() if tag.split("-")[0] not in EDITIONS | BRANCHES
    } == set()


BRANCHES = {"bat", "fiu", "roa"}
"""First parts of editions that have no shorter one."""


def test_every_label_of_the_identifier_is_known_but_one() -> None:
    assert len(LID_176) == 176
    unknown = [code for code in LID_176 if code not in EDITIONS and code not in ALIASES]
    assert unknown == ["lrc"], "Northern Luri's edition is closed"

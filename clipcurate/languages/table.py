"""Language codes that are known without being told, and the Wikipedia edition each stands for.

Meta CLIP 2's metadata are built from Wikipedia's editions, one list each, named by the edition's
code (329 of them; arXiv 2507.22062, its published docs/metaclip2.md). Where a code of ISO 639
means something else in Wikipedia, Wikipedia's meaning holds: `als` is Alemannic, not Tosk Albanian.
"""

_EDITIONS = """
    ab ace ady af als alt am ami an ang anp ar arc ary arz as ast atj av avk awa ay az azb ba ban
    bar bat-smg bbc bcl be bew bg bh bi bjn blk bm bn bo bpy br bs bug bxr ca cbk cdo ce ceb ch chr
    chy ckb co cr crh cs csb cu cv cy da dag de dga din diq dsb dtp dty dv dz ee el eml en eo es et
    eu ext fa fat ff fi fiu-vro fj fo fon fr frp frr fur fy ga gag gan gcr gd gl glk gn gom gor got
    gpe gu guc gur guw gv ha hak haw he hi hif hr hsb ht hu hy hyw ia id ie ig igl ik ilo inh io is
    it iu ja jam jbo jv ka kaa kab kbd kbp kcg kg ki kk kl km kn ko koi krc ks ksh ku kus kv kw ky
    la lad lb lbe lez lfn lg li lij lld lmo ln lo lt ltg lv mad mai map-bms mdf mg mhr mi min mk ml
    mn mni mnw mr mrj ms mt mwl my myv mzn nah nap nds ne new nia nl nn no nov nqo nrm nso nv ny oc
    olo om or os pa pag pam pap pcd pcm pdc pfl pi pih pl pms pnb pnt ps pt pwn qu rm rmy rn ro
    roa-rup roa-tara ru rue rw sa sah sat sc scn sco sd se sg sh shi shn si simple sk skr sl sm smn
    sn so sq sr srn ss st stq su sv sw szl szy ta tay tcy te tet tg th ti tk tl tly tn to tpi tr trv
    ts tt tum tw ty tyv udm ug uk ur uz ve vec vep vi vls vo wa war wo wuu xal xh xmf yi yo za zea
    zgh zh zu
"""
_ISO_639_3 = """
    abk:ab afr:af amh:am arg:an ara:ar asm:as ava:av aym:ay aze:az bak:ba bel:be bul:bg bis:bi
    bam:bm ben:bn bod:bo bre:br bos:bs cat:ca che:ce cha:ch cos:co cre:cr ces:cs chu:cu chv:cv
    cym:cy dan:da deu:de div:dv dzo:dz ewe:ee ell:el eng:en epo:eo spa:es est:et eus:eu fas:fa
    ful:ff fin:fi fij:fj fao:fo fra:fr fry:fy gle:ga gla:gd glg:gl grn:gn guj:gu glv:gv hau:ha
    heb:he hin:hi hrv:hr hat:ht hun:hu hye:hy ina:ia ind:id ile:ie ibo:ig ipk:ik ido:io isl:is
    ita:it iku:iu jpn:ja jav:jv kat:ka kon:kg kik:ki kaz:kk kal:kl khm:km kan:kn kor:ko kas:ks
    kur:ku kom:kv cor:kw kir:ky lat:la ltz:lb lug:lg lim:li lin:ln lao:lo lit:lt lav:lv mlg:mg
    mri:mi mkd:mk mal:ml mon:mn mar:mr msa:ms mlt:mt mya:my nep:ne nld:nl nno:nn nor:no nav:nv
    nya:ny oci:oc orm:om ori:or oss:os pan:pa pli:pi pol:pl pus:ps por:pt que:qu roh:rm run:rn
    ron:ro rus:ru kin:rw san:sa srd:sc snd:sd sme:se sag:sg hbs:sh sin:si slk:sk slv:sl smo:sm
    sna:sn som:so sqi:sq srp:sr ssw:ss sot:st sun:su swe:sv swa:sw tam:ta tel:te tgk:tg tha:th
    tir:ti tuk:tk tgl:tl tsn:tn ton:to tur:tr tso:ts tat:tt twi:tw tah:ty uig:ug ukr:uk urd:ur
    uzb:uz ven:ve vie:vi vol:vo wln:wa wol:wo xho:xh yid:yi yor:yo zha:za zho:zh zul:zu
"""

_BIBLIOGRAPHIC = """
    tib:bo cze:cs wel:cy ger:de gre:el baq:eu per:fa fre:fr arm:hy ice:is geo:ka mac:mk mao:mi
    may:ms bur:my dut:nl rum:ro slo:sk alb:sq chi:zh
"""

_DEPRECATED = "iw:he in:id ji:yi jw:jv mo:ro mol:ro scc:sr scr:hr"

_NAMED_OTHERWISE = """
    nb:no nob:no gsw:als sgs:bat-smg vro:fiu-vro rup:roa-rup egl:eml rgn:eml zza:diq kok:gom
    bih:bh bho:bh lah:pnb ak:tw aka:tw nci:nah fil:tl
"""

_PARTS_OF_MACROLANGUAGES = """
    arb:ar ars:ar apc:ar ajp:ar acm:ar aeb:ar ekk:et pes:fa prs:fa lvs:lv khk:mn npi:ne ory:or
    pbt:ps pbu:ps pst:ps swc:sw swh:sw uzn:uz uzs:uz ydd:yi zsm:ms zlm:ms plt:mg quz:qu quy:qu
    gug:gn aln:sq fuf:ff fuv:ff ayr:ay ike:iu kpv:kv azj:az kmr:ku
    cmn:zh lzh:zh-classical nan:zh-min-nan yue:zh-yue
"""

EDITIONS = frozenset(_EDITIONS.split())
"""Wikipedia's editions. One whose code continues another's (`zh-yue`, `be-tarask`) is left out:
Meta CLIP 2 merges its entries into the shorter one's, which the tag's prefix finds.
"""

ALIASES = {
    alias: tag
    for pairs in (
        _ISO_639_3,
        _BIBLIOGRAPHIC,
        _DEPRECATED,
        _NAMED_OTHERWISE,
        _PARTS_OF_MACROLANGUAGES,
    )
    for alias, _, tag in (pair.partition(":") for pair in pairs.split())
}
"""Other codes, each with the tag of its edition."""

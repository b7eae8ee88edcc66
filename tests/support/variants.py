"""Every method with options under which it does all it can do in a few steps, on a CNN and on a ViT."""

from support.tiny import segmentor, setting, vit_segmentor

from semiseg.config.methods import METHOD_OPTIONS, UnlabeledOptions
from semiseg.config.prototypes import PrototypesOptions
from semiseg.methods import METHODS
from semiseg.methods.method import Method

STEPS = 6


WARMUP = 2  # steps, in the methods that use unlabelled images


VARIANTS = {
    **{name: (name, {}) for name in METHODS},
    "gct": ("gct", {"detector_channels": 8}),
    "u2pl": ("u2pl", {"queue_size": 300, "queue_size_first": 500}),
    "mean_teacher noise": ("mean_teacher", {"noise": 0.3, "teacher_bn": "own"}),
    "cutmix pixel": ("cutmix", {"confidence": "pixel", "threshold": 0.5}),
    "fixmatch prototypes": ("fixmatch", {"threshold": 0.5, "prototypes": PrototypesOptions(grid=4)}),
    "unimatch prototypes": ("unimatch", {"threshold": 0.5, "feature_dropout": 0.3, "prototypes": PrototypesOptions()}),
    "unimatch_v2 prototypes": (
        "unimatch_v2",
        {"threshold": 0.5, "complementary_dropout": False, "prototypes": PrototypesOptions()},
    ),
    "unimatch_v2 own": ("unimatch_v2", {"threshold": 0.5, "teacher_bn": "own"}),
    "corrmatch unmixed": ("corrmatch", {"threshold": 0.5, "threshold_momentum": 0.6, "soft_target": "unmixed"}),
    "pseudoseg background": ("pseudoseg", {"background": True, "temperature": 1.0}),
    # Decoders that see the background alone learn nothing where none is predicted, as here at one time.
    "cct background": ("cct", {"background": True, "object_masking": 0, "unlabeled_weight": 3.0, "ramp": 0.0}),
    "pc2seg grid": ("pc2seg", {"grid": 3, "contrast_weight": 1.0, "temperature": 0.5}),
    "ael strong": (
        "ael",
        {"threshold": 0.3, "gamma": 0.5, "bank_area": 0.1, "box_area": 0.05, "paste_probability": 1.0, "strong": True},
    ),
    "ael left out": ("ael", {"threshold": 0.3, "paste_probability": 1.0, "background": True}),
    "u2pl classmix": (
        "u2pl",
        {
            "mix": "classmix",
            "strong": True,
            "queue_size": 50,
            "queue_size_first": 70,
            "enqueue": 20,
            "low_rank": 1,
            "channels": 6,
            "anchors": 20,
            "negatives": 7,
            "teacher_bn": "own",
            "prototypes": PrototypesOptions(grid=4),
        },
    ),
    "gct mean": ("gct", {"report": "mean", "detector_channels": 4, "flaw_threshold": 0.3, "ramp": 0.0}),
    "cps plain": ("cps", {"cutmix": False, "report": "right", "unlabeled_weight": 1.5}),
    "cps prototypes": ("cps", {"report": "mean", "prototypes": PrototypesOptions(grid=4)}),
    "cps plain prototypes": ("cps", {"cutmix": False, "prototypes": PrototypesOptions(grid=None)}),
    "prototype classmix": (
        "prototype",
        {"mix": "classmix", "threshold": 0.5, "strong": True, "prototypes": PrototypesOptions(grid=4)},
    ),
    "prototype alone": (
        "prototype",
        {"linear": False, "threshold": 0.4, "prototypes": PrototypesOptions(grid=None, update="per_pixel")},
    ),
    "linear alone": ("prototype", {"prototypes": None, "denominator": "kept", "threshold": 0.5}),
}


ON_A_VIT = " on a ViT"


def method_of(variant: str, seed: int = 0, aux: bool = True) -> Method:
    name, changes = VARIANTS[variant]
    network = vit_segmentor if variant.endswith(ON_A_VIT) else segmentor
    kind = METHOD_OPTIONS[name]
    warmup = {"warmup": WARMUP / STEPS} if issubclass(kind, UnlabeledOptions) else {}
    student, another = (network(seed=seed + more, aux=aux, dropout=0.2) for more in (0, 7))
    given = setting(total_steps=STEPS, another=lambda: another)
    return METHODS[name](student, kind(**warmup, **changes), given).train()

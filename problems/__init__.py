"""Ready-made problems of the literature, each a few lines with its source, and the heuristics."""

from . import catalog as catalog
from .adaptive import ado as ado
from .adaptive import by_score as by_score
from .adaptive import odm as odm
from .adaptive import online_law as online_law
from .adaptive import skill_it as skill_it
from .adaptive import stages as stages
from .apple import apple as apple
from .autoscale import autoscale as autoscale
from .autoscale import autoscale_runs as autoscale_runs
from .autoscale import next_scale as next_scale
from .balancing import cagrad as cagrad
from .balancing import coba as coba
from .balancing import famo as famo
from .balancing import imtl_g as imtl_g
from .balancing import imtl_l as imtl_l
from .balancing import mftcoder as mftcoder
from .balancing import mgda as mgda
from .balancing import pcgrad as pcgrad
from .bilevel import bilevel as bilevel
from .bilevel import one_step as one_step
from .bimix import bimix as bimix
from .by_gradients import aioli as aioli
from .by_gradients import grape as grape
from .by_gradients import online_doge as online_doge
from .by_gradients import pike as pike
from .by_gradients import r_and_b as r_and_b
from .chameleon import chameleon as chameleon
from .climb import climb as climb
from .dcpt import dcpt as dcpt
from .dml import dml as dml
from .doge import doge as doge
from .doge import validation_problem as validation_problem
from .dograph import dograph as dograph
from .dograph import dograph_c as dograph_c
from .dograph import dograph_p as dograph_p
from .doremi import doremi as doremi
from .experts import ExpertMixture as ExpertMixture
from .experts import expert_features as expert_features
from .experts import mde as mde
from .experts import mixmin_streamed as mixmin_streamed
from .heuristics import proportional as proportional
from .heuristics import temperature as temperature
from .heuristics import uniform as uniform
from .heuristics import unimax as unimax
from .mixmax import mixmax as mixmax
from .mixmin import mixmin as mixmin
from .olmix import olmix as olmix
from .online import group_dro as group_dro
from .online import online_doremi as online_doremi
from .online import sheared_llama as sheared_llama
from .online import velocitune as velocitune
from .regmix import regmix as regmix
from .reuse import merged as merged
from .reuse import reuse as reuse
from .reuse import unmerged as unmerged
from .rounds import doremi_rounds as doremi_rounds
from .scalebio import scalebio as scalebio

__all__ = [
    "ExpertMixture",
    "ado",
    "aioli",
    "apple",
    "autoscale",
    "autoscale_runs",
    "bilevel",
    "bimix",
    "by_score",
    "cagrad",
    "chameleon",
    "climb",
    "coba",
    "dcpt",
    "dml",
    "doge",
    "dograph",
    "dograph_c",
    "dograph_p",
    "doremi",
    "doremi_rounds",
    "expert_features",
    "famo",
    "grape",
    "group_dro",
    "imtl_g",
    "imtl_l",
    "mde",
    "merged",
    "mftcoder",
    "mgda",
    "mixmax",
    "mixmin",
    "mixmin_streamed",
    "next_scale",
    "odm",
    "olmix",
    "one_step",
    "online_doge",
    "online_doremi",
    "online_law",
    "pcgrad",
    "pike",
    "proportional",
    "r_and_b",
    "regmix",
    "reuse",
    "scalebio",
    "sheared_llama",
    "skill_it",
    "stages",
    "temperature",
    "uniform",
    "unimax",
    "unmerged",
    "validation_problem",
    "velocitune",
]

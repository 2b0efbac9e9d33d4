"""Online rules: how weights move while the model trains, by what is measured on the way."""

from .ado import ADO as ADO
from .aioli import Aioli as Aioli
from .doge import DoGE as DoGE
from .grape import GRAPE as GRAPE
from .law import LawStep as LawStep
from .odm import ODM as ODM
from .pike import PiKE as PiKE
from .r_and_b import RAndB as RAndB
from .rule import Memory as Memory
from .rule import Need as Need
from .rule import Rule as Rule
from .rule import Scene as Scene
from .rule import Seen as Seen
from .rule import Standing as Standing
from .stages import Stages as Stages

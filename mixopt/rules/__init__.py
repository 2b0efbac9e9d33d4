"""Online rules: how weights move while the model trains, by what is measured on the way."""

from .rule import Memory as Memory
from .rule import Need as Need
from .rule import Rule as Rule
from .rule import Scene as Scene
from .rule import Seen as Seen
from .rule import Standing as Standing

"""The demo's metadata: what its captions say, and a long tail that they never mention."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from demo import captions
from demo.render import GROUNDS, INKS

PHRASES: tuple[str, ...] = (
    "clip art",
    "free download",
    "white background",
    "black background",
    "home page",
    "photo of",
    "image of",
    "stock illustration",
    "vector image",
    "flat icon",
    "free shipping",
    "gift",
    "Black Friday",
)
"""Bi-grams that the texts use."""

CAPITALISED: tuple[str, ...] = (
    "A",
    "An",
    "The",
    "Photo",
    "Image",
    "Icon",
    "Vector",
    "Black",
    "Red",
)
"""The published metadata has a few such entries; matching tells them from the lower-case ones."""

UNSEEN = """
acorn accordion albatross alligator almond ambulance amethyst antelope apple apricot apron aquarium
armadillo artichoke asparagus astronaut avocado badger bagel bagpipe bakery balcony ballet bamboo
banana banjo barn baseball basket basketball bassoon bathtub beach beagle bear beaver bee beetle
bicycle birch biscuit bison blackberry blender blueberry boat bobsled bonfire bookshelf boomerang
bottle boulder bowl bracelet bread brick bridge broccoli broom bucket buffalo bungalow bus
butterfly cabbage cactus camel camera candle canoe canyon caravan cardigan carousel carrot castle
caterpillar cauliflower cave celery cello chair chameleon chandelier cheese cheetah cherry chimney
chimpanzee chocolate church cicada cinema cinnamon clarinet cliff clock coconut collie concert
corn cottage cotton couch coyote crab cranberry crane cricket crocodile crow cucumber cupboard
curtain daffodil daisy deer desert desk dolphin donkey doughnut dragonfly drum duck eagle eggplant
elephant elm emerald escalator factory falcon farm fence fern ferry fig fireplace flamingo flute
forest fox frog furniture garage garlic gazelle geyser ginger giraffe glacier glove goat
goldfish gondola goose gorilla grape grapefruit guitar gymnasium hamburger hammock hamster harbour
harmonica harp hazelnut hedgehog helicopter helmet heron hippopotamus hockey honey horse hospital
hotel hummingbird hyena iceberg iguana island jacket jackal jaguar jellyfish jigsaw kangaroo kayak
kettle kitchen kiwi koala ladder ladybug lake lamp lantern lavender lemon leopard lettuce library
lighthouse lily lion lizard llama lobster locomotive lynx magnolia mango mansion maple marathon
meadow melon microphone microscope monastery moose mosque mosquito motorcycle mountain museum
mushroom necklace nightingale oasis oboe ocean octopus olive onion orchestra orchid ostrich otter
owl oyster paddle palace panda panther papaya parachute parrot parsley pasta peach peacock peanut
pear pelican penguin peony pepper piano pigeon pillow pineapple pistachio pizza plum
pomegranate pond poppy porcupine potato puffin pumpkin pyramid quail rabbit raccoon
radish railway rainbow raspberry reindeer restaurant rhinoceros rice river rocket rooster rose
saddle sailboat salad salmon sandal sandwich sardine saxophone scarf school scooter seahorse seal
shark sheep shrimp skateboard skyscraper sloth snail sofa soup sparrow spider spinach squid
squirrel stadium statue stork strawberry submarine suitcase sunflower surfboard swan sweater
sycamore table tambourine tangerine teapot temple tennis theatre tiger toaster tomato tortoise
tractor train trombone trumpet truck tulip tuna turkey turnip turtle valley vase village vineyard
viola violin volcano vulture waffle walnut walrus waterfall watermelon whale willow windmill wolf
woodpecker wrench xylophone yacht zebra zucchini
"""
"""Words that no text of the pool contains: the entries with a count of zero."""


def entries(names: Sequence[str]) -> list[str]:
    """The metadata for captions of things called `names`: distinct entries, sorted."""
    words = {word for name in names for word in name.split()}
    shapes = (*captions.PLAIN_SHAPES, *captions.COLOUR_SHAPES, *captions.BOILERPLATE)
    words.update(word for shape in shapes for word in _words(shape))
    numbers = {str(number) for number in range(1, 13)}
    found = {*names, *words, *numbers, *INKS, *GROUNDS, *PHRASES, *CAPITALISED, *UNSEEN.split()}
    return sorted(found)


def write_metadata(names: Sequence[str], path: Path) -> int:
    """Writes the entries as a JSON list, as MetaCLIP publishes its own; returns their number."""
    found = entries(names)
    path.write_text(json.dumps(found), encoding="utf-8")
    return len(found)


def _words(shape: str) -> list[str]:
    """The lower-case words of a sentence shape, without its placeholders."""
    return re.findall(r"[a-z]+", re.sub(r"{\w+}", " ", shape.lower()))

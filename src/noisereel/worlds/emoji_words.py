"""How the emoji world is put into words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from unicodedata import lookup

from noisereel.worlds.captions import Language

Number = Literal["one", "many", "some"]


@dataclass(frozen=True, kw_only=True)
class Noun:
    """A drawable thing: its name, the drawing's code point, and how sentences take it."""

    name: str
    code: int
    number: Number
    phrase: str  # with its article, "a cat"; "a owl" is put right by the captions' grammar

    @property
    def file(self) -> str:
        """The name of the drawing in Noto's folders."""
        return f"emoji_u{self.code:04x}.png"


def _noun(entry: str) -> Noun:
    name, _, unicode_name = entry.partition("=")
    mark, name = (name[0], name[1:]) if name[0] in "+~*" else ("", name)
    code = ord(lookup((unicode_name or name).upper()))
    if mark == "*":
        return Noun(name=name.removeprefix("an ").removeprefix("the "), code=code, number="one", phrase=name)
    if mark == "":
        return Noun(name=name, code=code, number="one", phrase=f"a {name}")
    number: Number = "many" if mark == "+" else "some"
    return Noun(name=name, code=code, number=number, phrase=name if mark == "+" else f"some {name}")


# Everything of Unicode 14 that is a thing: no faces of people, hands, signs, people, or pictures that fill a square. Written
# "our name=name in Unicode", or once where the two agree; "+" marks plurals, "~" what cannot be counted, and "*" what keeps
# the article it has, or none.
_TABLE = """
mahjong tile=mahjong tile red dragon; playing card=playing card black joker; blue spiral=cyclone; closed umbrella; rainbow;
wave=water wave; volcano; globe=earth globe europe-africa; planet Earth=earth globe americas;
globe with lines=globe with meridians; half moon=first quarter moon symbol; full moon=full moon symbol; crescent moon;
dark moon with a face=new moon with face; moon with a face=full moon with face; sun with a face=sun with face; glowing star;
shooting star; thermometer; sun with a small cloud=white sun with small cloud;
sun with a rain cloud=white sun behind cloud with rain; rain cloud=cloud with rain; snow cloud=cloud with snow;
thundercloud=cloud with lightning; tornado=cloud with tornado; hot dog; taco; burrito; chestnut; seedling;
fir tree=evergreen tree; round tree=deciduous tree; palm tree; cactus; chilli pepper=hot pepper; tulip; cherry blossom; rose;
hibiscus; sunflower; yellow flower=blossom; ear of corn=ear of maize; herb; four-leaf clover=four leaf clover; maple leaf;
+brown leaves=fallen leaf; green leaf=leaf fluttering in wind; mushroom; tomato; aubergine; +grapes; melon; watermelon;
tangerine; lemon; banana; pineapple; red apple; green apple; pear; peach; +cherries; strawberry; hamburger; slice of pizza;
piece of meat=meat on bone; chicken leg=poultry leg; rice cracker; rice ball; bowl of rice=cooked rice;
plate of curry=curry and rice; bowl of noodles=steaming bowl; plate of spaghetti=spaghetti; ~bread; +chips=french fries;
sweet potato=roasted sweet potato; ~sushi; fried shrimp; fish cake=fish cake with swirl design;
ice cream cone=soft ice cream; bowl of shaved ice=shaved ice; cup of ice cream=ice cream; doughnut; cookie; chocolate bar;
wrapped sweet=candy; lollipop; custard pudding=custard; honey pot; shortcake; lunch box=bento box; pot of stew=pot of food;
frying pan=cooking; knife and fork=fork and knife; cup of green tea=teacup without handle; glass of wine=wine glass;
cocktail=cocktail glass; tropical drink; mug of beer=beer mug; +beer mugs=clinking beer mugs; baby bottle;
plate with a knife and fork=fork and knife with plate; champagne bottle=bottle with popping cork; ~popcorn; ribbon;
present=wrapped present; birthday cake; pumpkin lantern=jack-o-lantern; Christmas tree; +fireworks;
sparkler=firework sparkler; balloon; party popper; confetti ball; +crossed flags; bamboo plant=pine decoration;
carp streamer; wind chime; school bag=school satchel; graduation cap; military medal; yellow ribbon=reminder ribbon;
studio microphone; +control knobs; film strip=film frames; +tickets=admission tickets; carousel horse; ferris wheel;
roller coaster; fishing rod=fishing pole and fish; microphone; film camera=movie camera; +headphones=headphone;
paint palette=artist palette; top hat; circus tent; ticket; clapperboard=clapper board; +theatre masks=performing arts;
game controller=video game; target=direct hit; slot machine; billiard ball=billiards; dice=game die; +bowling pins=bowling;
musical note; saxophone; guitar; piano keyboard=musical keyboard; trumpet; violin; running shirt=running shirt with sash;
tennis racket=tennis racquet and ball; ski boot=ski and ski boot; basketball=basketball and hoop; chequered flag;
medal=sports medal; trophy; American football; rugby ball=rugby football; motorcycle=racing motorcycle; racing car;
cricket bat=cricket bat and ball; volleyball; hockey stick=field hockey stick and ball;
ice hockey stick=ice hockey stick and puck; table tennis bat=table tennis paddle and ball;
snowy mountain=snow capped mountain; beach umbrella=beach with umbrella; row of houses=house buildings;
group of skyscrapers=cityscape; ruined house=derelict house building; temple=classical building; desert island; stadium;
house=house building; house with a tree=house with garden; office building; post office=european post office; hospital; bank;
hotel; corner shop=convenience store; school; department store; factory; red lantern=izakaya lantern; Japanese castle;
castle=european castle; white flag=waving white flag; black flag=waving black flag; rosette; label;
badminton racket=badminton racquet and shuttlecock; bow and arrow; amphora; rat; mouse; ox; water buffalo; cow; tiger;
leopard; rabbit; cat; dragon; crocodile; whale; snail; snake; horse; ram; goat; sheep; monkey; rooster; chicken head=chicken;
dog; pig; boar; elephant; octopus; shell=spiral shell; caterpillar=bug; ant; bee=honeybee; ladybird=lady beetle; fish;
tropical fish; pufferfish=blowfish; turtle; hatching chick; yellow chick=baby chick;
chick seen from the front=front-facing baby chick; bird; penguin; koala face=koala; poodle; camel=dromedary camel;
camel with two humps=bactrian camel; dolphin; mouse face; cow face; tiger face; rabbit face; cat face; dragon face;
spouting whale; horse face; monkey face; dog face; pig face; frog face; hamster face; wolf face; bear face; panda face;
pig nose; +paw prints; chipmunk; eye; crown; sun hat=womans hat; +glasses=eyeglasses; necktie; T-shirt; +jeans; dress;
kimono; bikini; pink blouse=womans clothes; purse; handbag; pouch; brown shoe=mans shoe; running shoe=athletic shoe;
red high heel=high-heeled shoe; sandal=womans sandal; brown boot=womans boots; ghost; alien=extraterrestrial alien;
pixel monster=alien monster; skull; lipstick; barber pole; syringe; pill; love letter; ring; diamond=gem stone; bouquet;
broken heart; +pink hearts=two hearts; sparkling heart; heart with an arrow=heart with arrow; blue heart; green heart;
yellow heart; purple heart; heart with a ribbon=heart with ribbon; light bulb=electric light bulb; bomb;
explosion=collision symbol; drop of water=droplet; shooting yellow star=dizzy symbol; white flower; money bag; credit card;
winged banknote=money with wings; seat; laptop=personal computer; briefcase; floppy disk; compact disc=optical disc;
folder=file folder; curled page=page with curl; page of text=page facing up; calendar; tear-off calendar;
rising chart=chart with upwards trend; falling chart=chart with downwards trend; bar chart; clipboard; pushpin;
drawing pin=round pushpin; paperclip; ruler=straight ruler; triangular ruler; notebook; red book=closed book; open book;
green book; blue book; orange book; +books; name badge; scroll; notepad and pencil=memo; telephone receiver; pager;
fax machine; satellite antenna; loudspeaker=public address loudspeaker; megaphone=cheering megaphone; parcel=package;
mailbox=closed mailbox with raised flag; postbox; post horn=postal horn; newspaper; phone=mobile phone; camera;
flashing camera=camera with flash; camcorder=video camera; television; radio; video tape=videocassette; film projector;
+beads=prayer beads; speaker; loud speaker=speaker with three sound waves; battery; plug=electric plug;
magnifying glass=right-pointing magnifying glass; key; closed padlock=lock; padlock=open lock; bell; bookmark; flame=fire;
torch=electric torch; spanner=wrench; hammer; bolt=nut and bolt; kitchen knife=hocho; water pistol=pistol; microscope;
telescope; crystal ball; trident=trident emblem; red circle=large red circle; blue circle=large blue circle;
orange diamond=large orange diamond; blue diamond=large blue diamond; red triangle=up-pointing red triangle;
dove=dove of peace; clock=clock face three oclock; candle; mantel clock=mantelpiece clock; hole; +sunglasses=dark sunglasses;
spider; spider web; joystick; +paperclips=linked paperclips; pen=lower left ballpoint pen;
fountain pen=lower left fountain pen; paintbrush=lower left paintbrush; crayon=lower left crayon; desktop computer; printer;
computer mouse=three button mouse; trackball; framed picture=frame with picture; filing cabinet=file cabinet;
waste bin=wastebasket; spiral notepad=spiral note pad; old key; rolled newspaper=rolled-up newspaper; dagger=dagger knife;
world map; *Mount Fuji; red tower=tokyo tower; *the Statue of Liberty=statue of liberty; stone head=moyai; rocket;
helicopter; steam engine=steam locomotive; railway car; fast train=high-speed train; train; light railway train=light rail;
tram=tram car; bus; bus seen from the front=oncoming bus; trolleybus; bus stop; minibus; ambulance; fire engine; police car;
police car seen from the front=oncoming police car; taxi; taxi seen from the front=oncoming taxi; car=automobile;
car seen from the front=oncoming automobile; camper van=recreational vehicle; delivery van=delivery truck;
lorry=articulated lorry; tractor; monorail; cable car=aerial tramway; ship; rowing boat=rowboat; speedboat;
horizontal traffic light; traffic light=vertical traffic light; road barrier=construction sign;
siren=police cars revolving light; red flag=triangular flag on post; door; bicycle; toilet; shower head=shower; bathtub;
sofa=couch and lamp; +shopping bags; reception bell=bellhop bell; bed; red octagon=octagonal sign; shopping trolley; hut;
slide=playground slide; wheel; lifebuoy=ring buoy; hammer and spanner=hammer and wrench; shield; oil drum; railway track;
motorboat=motor boat; small plane=small airplane; satellite; cruise ship=passenger ship; scooter; motor scooter; canoe;
sledge=sled; flying saucer; skateboard; rickshaw=auto rickshaw; pickup truck; roller skate;
orange circle=large orange circle; yellow circle=large yellow circle; green circle=large green circle;
purple circle=large purple circle; brown circle=large brown circle; red square=large red square;
blue square=large blue square; orange square=large orange square; yellow square=large yellow square;
green square=large green square; purple square=large purple square; brown square=large brown square; white heart;
brown heart; robot=robot face; diving mask; wilted rose=wilted flower; drum=drum with drumsticks;
+champagne glasses=clinking glasses; glass of whisky=tumbler glass; spoon; goal=goal net; boxing glove;
judo suit=martial arts uniform; curling stone; lacrosse stick=lacrosse stick and ball; softball; frisbee=flying disc;
croissant; avocado; cucumber; ~bacon; potato; carrot; baguette=baguette bread; salad=green salad; paella=shallow pan of food;
stuffed flatbread; egg; glass of milk; +peanuts; kiwi=kiwifruit; +pancakes; dumpling; fortune cookie;
takeaway box=takeout box; +chopsticks; bowl with a spoon=bowl with spoon; cup with a straw=cup with straw; coconut;
~broccoli; pie; pretzel; steak=cut of meat; sandwich; tin=canned food; lettuce=leafy green; mango; moon cake; bagel; sari;
lab coat; +goggles; hiking boot; flat shoe; crab; lion face; scorpion; turkey; unicorn face; eagle; duck; bat; shark; owl;
fox face; butterfly; deer; gorilla; lizard; rhinoceros; shrimp; squid; giraffe face; zebra face; hedgehog;
long-necked dinosaur=sauropod; tyrannosaurus=t-rex; cricket; kangaroo; llama; peacock; hippopotamus; parrot;
raccoon face=raccoon; lobster; mosquito; microbe; badger; swan; mammoth; dodo; sloth; otter; orangutan; skunk; flamingo;
oyster; beaver; bison; seal; white cane=probing cane; bone; tooth; safety vest; electric wheelchair=motorized wheelchair;
wheelchair=manual wheelchair; robot arm=mechanical arm; robot leg=mechanical leg; wedge of cheese=cheese wedge; cupcake;
salt shaker; juice box=beverage box; garlic bulb=garlic; onion; plate of falafel=falafel; waffle; ~butter;
mate gourd=mate drink; ice cube; bubble tea; brain; orange heart; cap=billed cap; scarf; +gloves; coat; +socks;
red envelope=red gift envelope; firecracker; puzzle piece=jigsaw puzzle piece; test tube; petri dish;
strand of DNA=dna double helix; compass; abacus; fire extinguisher; toolbox; brick wall=brick; magnet; suitcase=luggage;
lotion bottle; reel of thread=spool of thread; ball of yarn; safety pin; teddy bear; broom; basket;
roll of toilet paper=roll of paper; bar of soap; sponge; blue amulet=nazar amulet; +ballet shoes;
swimsuit=one-piece swimsuit; +briefs; +shorts; flip-flop=thong sandal; plaster=adhesive bandage; stethoscope; crutch; yo-yo;
kite; parachute; boomerang; magic wand; pinata; +nesting dolls; ringed planet; chair; razor; axe; oil lamp=diya lamp; banjo;
military helmet; accordion; conga drum=long drum; coin; saw=carpentry saw; screwdriver; ladder; hook; mirror; window;
plunger; sewing needle; knot; bucket; mousetrap=mouse trap; toothbrush; gravestone=headstone; rock; disco ball=mirror ball;
fly; worm; beetle; cockroach; potted plant; log=wood; feather; lotus flower=lotus; piece of coral=coral; nest=empty nest;
nest with eggs; +lungs; +blueberries; bell pepper; olive; flatbread; tamale; fondue pot=fondue; teapot; +beans; jar;
+bubbles; watch; *an hourglass=hourglass; keyboard; alarm clock; stopwatch; kitchen timer=timer clock; cloud; umbrella;
snowman in the snow=snowman; comet; red telephone=black telephone; umbrella in the rain=umbrella with rain drops;
cup of coffee=hot beverage; shamrock; skull and crossbones; chess pawn=black chess pawn; hammer and pick; anchor;
+crossed swords; +scales; gear; lightning bolt=high voltage sign; coffin; urn=funeral urn; football=soccer ball; baseball;
snowman=snowman without snow; sun behind a cloud=sun behind cloud; pickaxe=pick; rescue helmet=helmet with white cross;
+chains; church; mountain; fountain; golf flag=flag in hole; ferry; sailboat; ice skate; tent; petrol pump=fuel pump;
+scissors=black scissors; aeroplane=airplane; envelope; pencil; +sparkles; snowflake; red heart=heavy black heart;
star=white medium star
"""
NOUNS = tuple(_noun(entry) for line in _TABLE.strip().splitlines() for entry in line.strip("; ").split("; "))

_SYNONYMS = {
    "aeroplane": "airplane",
    "alien": "extraterrestrial",
    "aubergine": "eggplant",
    "camper van": "motorhome",
    "car": "automobile",
    "chips": "french fries",
    "cookie": "biscuit",
    "delivery van": "delivery truck",
    "doughnut": "donut",
    "fire engine": "fire truck",
    "football": "soccer ball",
    "fir tree": "evergreen tree",
    "flying saucer": "UFO",
    "glasses": "eyeglasses",
    "hamburger": "burger",
    "ladybird": "ladybug",
    "lifebuoy": "life ring",
    "log": "piece of wood",
    "lorry": "truck",
    "padlock": "open lock",
    "petrol pump": "gas pump",
    "pinata": "party pinata",
    "present": "gift",
    "rabbit": "bunny",
    "sailboat": "sailing boat",
    "sofa": "couch",
    "spanner": "wrench",
    "suitcase": "piece of luggage",
    "taxi": "cab",
    "television": "TV",
    "torch": "flashlight",
    "turtle": "tortoise",
    "wrapped sweet": "piece of candy",
}

_MOTIONS: dict[str, tuple[str, ...]] = {
    "left": ("slides left", "slides to the left", "moves left", "moves to the left"),
    "right": ("slides right", "slides to the right", "moves right", "moves to the right"),
    "up": ("floats up", "floats upwards", "rises"),
    "down": ("falls down", "falls", "drops"),
    "clockwise": ("spins clockwise", "turns clockwise", "rotates clockwise"),
    "counterclockwise": ("spins counterclockwise", "turns counterclockwise", "rotates counterclockwise"),
    "grows": ("grows", "gets bigger", "grows larger"),
    "shrinks": ("shrinks", "gets smaller"),
    "bounces": ("bounces", "bounces up and down", "hops up and down"),
    "shakes": ("shakes", "trembles", "shakes quickly"),
    "swings": ("swings", "swings from side to side", "swings like a pendulum"),
    "flips": ("flips", "flips over and over", "flips around"),
}
_PARTICIPLES = {
    "slides": "sliding",
    "moves": "moving",
    "floats": "floating",
    "rises": "rising",
    "falls": "falling",
    "drops": "dropping",
    "spins": "spinning",
    "turns": "turning",
    "rotates": "rotating",
    "grows": "growing",
    "gets": "getting",
    "shrinks": "shrinking",
    "bounces": "bouncing",
    "hops": "hopping",
    "shakes": "shaking",
    "trembles": "trembling",
    "swings": "swinging",
    "flips": "flipping",
}
_GROUNDS: dict[str, tuple[str, ...]] = {"grey": ("grey", "gray"), "navy": ("navy", "navy blue")}


def _inflected(said: str, form: Literal["many", "participle"]) -> str:
    verb, space, tail = said.partition(" ")
    return (_PARTICIPLES[verb] if form == "participle" else verb.removesuffix("s")) + space + tail


def _ways(noun: Noun) -> list[tuple[str, str]]:
    """Each way to name the noun, with and without its article."""
    other = _SYNONYMS.get(noun.name)
    said = [(noun.phrase, noun.name)]
    return said if other is None else [*said, (noun.phrase.replace(noun.name, other), other)]


_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "thing": {noun.phrase: tuple(phrase for phrase, _ in _ways(noun)) for noun in NOUNS},
    "name": {noun.name: tuple(name for _, name in _ways(noun)) for noun in NOUNS},
    "ground": _GROUNDS,
    "motion": _MOTIONS
    | {f"{motion}, many": tuple(_inflected(way, "many") for way in ways) for motion, ways in _MOTIONS.items()},
    "moving": {motion: tuple(_inflected(way, "participle") for way in ways) for motion, ways in _MOTIONS.items()},
}


def spoken(noun: Noun, ground: str, motion: str) -> dict[str, str]:
    """What the slots of a caption hold."""
    verb = f"{motion}, many" if noun.number == "many" else motion
    return {"thing": noun.phrase, "name": noun.name, "ground": ground, "motion": verb, "moving": motion}


VIDEO = Language(
    templates=(
        "{thing} {motion} on a {ground} background",
        "{thing} {moving} on a {ground} background",
        "on a {ground} background, {thing} {motion}",
        "{name} {moving}, {ground} background",
        "a video of {thing} {moving} over a {ground} backdrop",
        "the background is {ground} and {thing} {motion}",
        "an animated emoji of {thing} that {motion} in front of a {ground} background",
    ),
    words=_WORDS,
)
# Captions that leave something out, as people do.
BRIEF = Language(
    templates=(
        "{thing} {motion}",
        "{thing} {moving}",
        "{name} {moving}",
        "a clip of {thing} {moving}",
        "see how {thing} {motion}",
    ),
    words=_WORDS,
)
# Captions of one frame: nothing that only motion could show.
IMAGE = Language(
    templates=(
        "{thing} on a {ground} background",
        "on a {ground} background, {thing}",
        "{name}, {ground} background",
        "a picture of {thing} over a {ground} backdrop",
        "an emoji of {thing} in front of a {ground} background",
        "a drawing of {thing}",
    ),
    words=_WORDS,
)

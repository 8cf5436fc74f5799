/** The corpus's own word lists. Order matters: seeds draw by index. */

const list = (text) => text.trim().split(/\s+/);

export const THINGS = list(`
  table chair lamp book cup plate spoon knife window door garden river bridge road train bus boat ship plane wheel
  engine clock watch mirror bottle basket box bag coat hat shoe glove ring coin stone brick wall roof floor carpet
  pillow blanket candle piano drum guitar violin flute camera phone screen keyboard printer battery cable hammer nail
  saw ladder rope bucket brush paint paper pencil letter stamp parcel map flag tent kite ball bat net goal racket
  helmet bicycle scooter truck tractor barn fence gate hill valley lake island beach forest tree leaf flower seed root
  grass apple pear plum cherry lemon orange banana grape melon peach carrot potato onion tomato bean pea corn bread
  butter cheese milk egg soup salad cake cookie sugar salt pepper honey jam tea coffee juice water dog cat horse cow
  sheep goat pig hen duck goose fish bird owl crow mouse rabbit fox wolf bear deer bee ant spider frog snake turtle
  desk pen ruler shelf drawer key lock bell whistle towel soap sponge comb razor shirt sock scarf belt button needle
  thread ribbon vase oven fridge kettle pan pot bowl jar lid tray star moon sun cloud rain snow wind storm fire ice
`);

/** Those the vocabulary has a piece for, with and without a space: only these are keys and values to be looked up. */
export const ONE_PIECE_THINGS = list(`
  chair lamp book door garden bus clock watch coat hat drum guitar violin camera phone printer battery paint letter map
  island forest orange bread cheese egg soup cake cat hen pen key oven pan pot bowl star moon rain wind
`);

export const PLACES = list(`
  kitchen garden garage office cellar attic bedroom bathroom hall library school market station harbour museum park
  forest church hotel bakery clinic theatre stable tower castle village
`);

export const NAMES = list(`
  Anna Ben Clara David Emma Felix Greta Henry Ida Jack Karl Laura Martin Nina Oscar Paula Quinn Rosa Simon Tina Ursula
  Victor Wanda Yusuf Zoe Amir Bella Carlos Dora Elias Fatima Hugo Irene Jonas Kira Leon Maya Noah Olga Peter Ruth Sara
  Tom Vera Will Mia Lucas Alice Robert Helen
`);

export const COLOURS = list('red blue green yellow black white brown grey pink purple orange silver');

export const LIVELY = list(`
  walk run jump swim climb carry build paint clean wash cook bake eat drink read write sing dance play work sleep wake
  open close break fix push pull throw catch hold drop find lose buy sell pay send bring take give keep leave stay
  start stop learn teach help ask answer speak listen watch wait travel visit meet grow cut turn move change follow
  count draw fly drive ride sail plant pick fill empty order check plan choose count save spend share join need want
`);

export const QUALITIES = list(`
  old new big small long short tall wide narrow heavy light fast slow hot cold warm cool dry wet clean dirty bright
  dark loud quiet soft hard smooth rough sweet sour bitter fresh strong weak rich poor young early late easy difficult
  simple strange common rare empty full open round square flat deep high low near far safe wild calm busy free plain
`);

export const JOINING = list(`
  and or but so because when while after before until although if that which who with without under over near behind
  between through across along into from about against during since then there here very quite also only even still
  again always never often sometimes today tomorrow yesterday soon later now
`);

export const SUBJECTS = list(`
  history physics chemistry biology law politics philosophy religion art geography economics medicine astronomy grammar
  football chess gardening cooking fashion farming engineering trade software security education
`);

export const GOOD = list(`
  good great excellent wonderful lovely perfect fantastic amazing superb delightful brilliant charming pleasant splendid
  beautiful impressive enjoyable marvellous outstanding terrific friendly helpful tasty comfortable fun
`);

export const BAD = list(`
  bad terrible awful horrible dreadful poor disgusting boring disappointing useless ugly annoying nasty unpleasant lousy
  miserable painful rude dull broken faulty dirty bland noisy wretched
`);

export const REVIEWED = list(`
  film book song meal hotel room service food show play game phone camera chair lamp coat trip flight concert soup
  cake coffee story actor waiter driver guide bed view garden app printer battery shop market dinner lesson tour
`);

export const TOPICS = {
  sport: list(
    'team goal match player coach league referee striker tournament race stadium champion score runner medal',
  ),
  food: list('bread soup recipe cheese oven butter chef sauce dinner salad flour spice kitchen dish taste'),
  weather: list('rain snow storm wind cloud thunder forecast frost fog sunshine temperature hail drizzle heat breeze'),
  travel: list(
    'flight hotel passport luggage airport tourist journey suitcase ticket cruise border visa tour guide map',
  ),
  money: list('bank loan price tax salary budget invoice debt profit interest savings account payment market shares'),
  music: list('song guitar piano singer concert melody drummer violin album choir rhythm band orchestra chord tune'),
  health: list(
    'doctor nurse hospital medicine fever patient vaccine pain surgeon illness diet pulse clinic wound cough',
  ),
};

export const MONTHS = list('January February March April May June July August September October November December');

export const DIGIT_WORDS = list('zero one two three four five six seven eight nine');

"""Telugu numbers as they are said: cardinals, ordinals, money, times, shares, telephone numbers.

The words of cardinals are those of AI4Bharat's `indic-numtowords` (MIT); what it leaves to its caller
(numbers beyond 99 crores, the forms before a noun and before a case ending) is made here.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from indic_numtowords import num2words

_TELUGU = "\u0c00-\u0c7f"
_LAKH_CRORE = 10_000_000
# From here on the package reads single digits.
_BEYOND_PACKAGE = 1_000_000_000
# A number of this many digits without separators is a telephone number, not a quantity.
_DIALLED_DIGITS = 10

# కి.మీ., కి.గ్రా. and ని. (నిమిషాలు) are units, however they are spaced, and no case endings.
_NO_UNIT = rf"(?!(?<=కి)\.[{_TELUGU}]|(?<=ని)\.|(?<=కి)\.?\s(?:మీ|గ్రా)(?![{_TELUGU}]))"

_POINT, _MINUS, _PERCENT, _DEGREES = "పాయింట్", "మైనస్", "శాతం", "డిగ్రీలు"
_FRACTIONS = {("1", "2"): "అర", ("1", "4"): "పావు", ("3", "4"): "ముప్పావు"}
_PEOPLE = {"2": "ఇద్దరు", "3": "ముగ్గురు", "4": "నలుగురు"}  # the others take గురు as it stands
# One and many of each.
_CURRENCIES = {
    "₹": ("రూపాయి", "రూపాయలు"),
    "$": ("డాలర్", "డాలర్లు"),
    "€": ("యూరో", "యూరోలు"),
    "£": ("పౌండ్", "పౌండ్లు"),
}

_AMOUNT = r"(?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d+)(?:\.\d+)?"
_CASE = "లోని|లోనే|లోకి|లో|కి|కే|కు|ని|ను|తో|న|వది|వ"
_PLURAL = "లలో|లకు|లకి|లు|ల"
# What may hang on a number: a case ending (written together or apart), a plural, "వసారి", people.
_TAIL = (
    rf"(?:(?P<tail>{_CASE}|{_PLURAL}|గురు)(?![{_TELUGU}]){_NO_UNIT}"
    rf"|\s(?P<apart>{_CASE})(?![{_TELUGU}]){_NO_UNIT}"
    rf"|(?P<nth>వ)(?=సారి|రోజు|తేదీ)|(?P<o>ో)(?![\u0c3e-\u0c4d]))?"
)
_MULTIPLIER = rf"(?:\s?(?P<multiplier>(?:లక్ష|కోటి|కోట్|వే|వంద|మిలియన్|బిలియన్|ట్రిలియన్)(?:ల|లు)?)(?![{_TELUGU}]))?"
# After these a number stands for itself: "ఒకటి నుంచి", not "ఒక నుంచి".
_NO_NOUN = "నుంచి|నుండి|వరకు|దాకా|కంటే|మరియు|లేదా|కాదు|తర్వాత|తరువాత"


class _Rule(NamedTuple):
    """What is looked for, and what is said instead (without its tail)."""

    pattern: re.Pattern[str]
    words: Callable[[re.Match[str]], str]


def say_numbers(text: str) -> str:
    """The text with every number in words; digits are ASCII digits by then, and none remain."""
    for rule in _RULES:
        text = rule.pattern.sub(lambda match, rule=rule: _replaced(match, rule), text)
    return text


def cardinal(number: int) -> str:
    """A number that stands for itself: ఐదు వందలు.

    1,100 to 1,999 are said in hundreds, as years and prices are: పందొమ్మిది వందల నలభై ఏడు.
    """
    if number >= _BEYOND_PACKAGE:
        return f"{counting(number // _LAKH_CRORE)} {_continued('కోట్ల', number % _LAKH_CRORE)}"
    if 1_100 <= number < 2_000:
        return f"{_package(number // 100)} {_continued('వందల', number % 100)}"
    return _package(number)


def counting(number: int) -> str:
    """A number before what it counts: ఐదు వందల, ఒక, ఇరవై ఒక్క."""
    words = cardinal(number)
    if words == "ఒకటి":
        return "ఒక"
    if words.endswith(" ఒకటి"):
        return words.removesuffix("ఒకటి") + "ఒక్క"
    return _oblique(words)


def digits(text: str) -> str:
    """Each digit by itself, whatever stands between them."""
    return " ".join(_package(int(digit)) for digit in text if digit.isdigit())


def ordinal(words: str) -> str:
    """The rank of a cardinal in words: ఐదు -> ఐదవ, ఇరవై -> ఇరవయ్యవ."""
    if words.endswith("ై"):
        return words.removesuffix("ై") + "య్యవ"
    return words.rstrip("ుి") + "వ"


def amount(text: str, name: Callable[[int], str] = cardinal) -> str:
    """`1,50,000`, `3.14`, `007`: grouped, decimal (each decimal by itself), dialled."""
    whole, point, decimals = text.replace(",", "").partition(".")
    is_dialled = len(whole) >= _DIALLED_DIGITS and "," not in text
    is_dialled |= len(whole) > 1 and whole.startswith("0")
    said = digits(whole) if is_dialled else (cardinal if point else name)(int(whole))
    return f"{said} {_POINT} {digits(decimals)}" if point else said


def _package(number: int) -> str:
    words = unicodedata.normalize("NFC", str(num2words(str(number), lang="te"))).replace("ఒక వెయ్యి", "వెయ్యి")
    return re.sub(r"ఒకటి (?=వే|వంద|లక్ష|కోట్)", "ఒక్క ", words)


def _continued(oblique: str, rest: int) -> str:
    return f"{oblique} {cardinal(rest)}" if rest else oblique + "ు"


def _oblique(words: str) -> str:
    return words.removesuffix("ు") if words.endswith("లు") else words


def _with_tail(words: str, tail: str) -> str:
    if tail in {"వ", "వది"}:
        return ordinal(words) + tail.removeprefix("వ")
    if tail == "ో":
        return words.rstrip("ుి") + tail
    if words.endswith("ం") and tail in {"కి", "కు", "ని"}:
        return words.removesuffix("ం") + {"కి": "ానికి", "కు": "ానికి", "ని": "ాన్ని"}[tail]
    if words.endswith("లు") and tail in _PLURAL.split("|"):  # it is plural already: ₹500లు, 500/-లకు
        return words if tail == "లు" else _oblique(words) + tail.removeprefix("ల")
    return _oblique(words) + tail


def _replaced(match: re.Match[str], rule: _Rule) -> str:
    groups = match.groupdict()
    tail = next((groups[name] for name in ("tail", "apart", "nth", "o") if groups.get(name)), "")
    if tail == "గురు" and match["number"] in _PEOPLE:
        words = _PEOPLE[match["number"]]
    else:
        words = _with_tail(rule.words(match), tail) if tail else rule.words(match)
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    return f"{' ' * _is_letter(before)}{words}{' ' * _is_letter(after)}"


def _is_letter(character: str) -> bool:
    return bool(re.match(rf"[\w{_TELUGU}]", character))


def _plain(match: re.Match[str]) -> str:
    rest = match.string[match.end() :]
    counts = re.match(rf"\s?(?!(?:{_NO_NOUN})(?![{_TELUGU}]))[\u0c05-\u0c39]", rest)
    has_tail = any(match[name] for name in ("tail", "apart", "nth", "o"))
    return amount(match["number"], counting if counts and not has_tail else cardinal)


def _money(match: re.Match[str]) -> str:
    symbol = match["symbol"]
    one, many = _CURRENCIES.get(symbol, _CURRENCIES["₹"])
    if match["multiplier"]:
        return f"{amount(match['number'], counting)} {_oblique(match['multiplier'])} {many}"
    whole, _, paise = match["number"].partition(".")
    if many == "రూపాయలు" and len(paise) == len("50"):
        rupees = _of(whole, one, many)
        return f"{_oblique(rupees)} {counting(int(paise))} పైసలు" if int(paise) else rupees
    return _of(match["number"], one, many)


def _money_range(match: re.Match[str]) -> str:
    return f"{amount(match['least'])} {_money(match)}"


def _of(number: str, one: str, many: str) -> str:
    return f"{amount(number, counting)} {one if number == '1' else many}"


def _time(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"])
    hours = "ఒంటి గంట" if hour == 1 else f"{counting(hour)} గంటలు"
    minutes = "ఒక నిమిషం" if minute == 1 else f"{counting(minute)} నిమిషాలు"
    said = f"{_oblique(hours)} {minutes}" if minute else hours
    if second := int(match.groupdict().get("second") or 0):
        said = f"{_oblique(said)} {'ఒక సెకను' if second == 1 else f'{counting(second)} సెకన్లు'}"
    return _oblique(said) if match["hours"] == "గంటల" else said


def _numbers_in_turn(match: re.Match[str]) -> str:
    return " ".join(cardinal(int(part)) for part in re.findall(r"\d+", match["number"]))


def _fraction(match: re.Match[str]) -> str:
    above, below = match["number"], match["below"]
    return _FRACTIONS.get((above, below), f"{amount(above)} బై {amount(below)}")


def _and_a_half(match: re.Match[str]) -> str:
    whole = amount(match["number"])
    return whole + "న్నర" if whole.endswith(("ు", "ి")) else f"{whole} అర"


def _temperature(match: re.Match[str]) -> str:
    said = amount(match["number"], counting)
    unit = f"{_oblique(_DEGREES)} సెల్సియస్" if match["celsius"] else _DEGREES
    return f"{_MINUS} {said} {unit}" if match["minus"] else f"{said} {unit}"


def _rule(body: str, words: Callable[[re.Match[str]], str], tail: str = _TAIL) -> _Rule:
    return _Rule(re.compile(body + tail), words)


_CLOCK = r"(?<![\d.,:])(?P<hour>[01]?\d|2[0-4])"
_HOURS = (
    rf"(?P<hours>గంట(?:లు|ల)?(?=(?:{_CASE})?(?![{_TELUGU}]))"
    rf"|గం\.?(?=(?:{_CASE}|{_PLURAL})?(?![{_TELUGU}])))"  # 8:30 గం.లకు
)
_SYMBOL = rf"(?P<symbol>[₹$€£]|(?<![\w{_TELUGU}])(?:Rs|INR|రూ)\.?)"

# The first that fits wins; what it leaves behind has no digits.
_RULES = (
    # +91 98480 22338, 040-2345-6789: groups of three and more, ten digits in all.
    _rule(
        r"(?P<number>\+\d{1,3}(?:[ -]?\d{2,}){2,}|(?<![\d,.])(?=(?:\d[ -]?){10})\d{3,}(?:[ -]\d{3,})+)"
        r"(?![\d,.]\d)",
        lambda match: digits(match["number"]),
    ),
    _rule(r"(?<!\d)(?P<number>\d{1,2}([./-])\d{1,2}\2\d{2,4})(?!\d)", _numbers_in_turn),
    _rule(r"(?<!\d)(?P<number>\d{4}([/-])\d{1,2}\2\d{1,2})(?!\d)", _numbers_in_turn),  # 2024-01-15
    _rule(r"(?P<number>\d+(?:\.\d+){2,})", _numbers_in_turn),
    _rule(r"(?<=:\d\d)-(?=\d{1,2}:\d\d)", lambda _: " ", tail=""),  # 7:30-8:30
    _rule(
        rf"{_CLOCK}:(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?(?![\d:])(?:\s?{_HOURS})?",
        _time,
    ),
    _rule(rf"{_CLOCK}\.(?P<minute>[0-5]\d)\s?{_HOURS}", _time),
    _rule(  # ₹5-6 లక్షలు
        rf"{_SYMBOL}\s?(?P<least>{_AMOUNT})-(?P<number>{_AMOUNT})(?:/-)?{_MULTIPLIER}", _money_range
    ),
    _rule(r"(?<=\d)-(?=\d)", lambda _: " ", tail=""),  # 2-3 రోజులు
    _rule(r"(?P<number>\d+)\s?½", _and_a_half),
    _rule(r"½", lambda _: "అర"),
    _rule(rf"{_SYMBOL}\s?(?P<number>{_AMOUNT})(?:/-)?{_MULTIPLIER}", _money),
    _rule(rf"(?P<number>{_AMOUNT})(?P<multiplier>)\s?(?P<symbol>₹|/-|రూ\.)", _money),
    _rule(rf"(?P<minus>-?)(?P<number>{_AMOUNT})\s?°\s?(?P<celsius>C(?![A-Za-z]))?", _temperature),
    _rule(rf"(?P<number>{_AMOUNT})\s?%", lambda match: f"{amount(match['number'], counting)} {_PERCENT}"),
    _rule(r"(?<![\d/])(?P<number>\d+)/(?P<below>\d+)(?![\d/])", _fraction),
    _rule(rf"(?P<number>{_AMOUNT})", _plain),
)

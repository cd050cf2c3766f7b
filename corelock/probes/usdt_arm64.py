"""Where arguments of static probes are on arm64."""

from __future__ import annotations

import re
from typing import Optional

from corelock.probes.operands import Index, Operand
from corelock.probes.usdt_arguments import NotFound, Site, Value, sum_of

# struct user_pt_regs of arm64: regs[31], sp, pc.
_SP = 8 * 31
_NAMES = {"fp": 29, "lr": 30, "ip0": 16, "ip1": 17}

_REGISTER = re.compile(r"([xw])(\d|[12]\d|30)")
_CONSTANT = re.compile(r"#?([+-]?\w+)")
_FLOATING = re.compile(r"[bhsdqvz]\d+\b.*")
_LOW = re.compile(r"#?:lo12:(.+)")
_EXTENSION = re.compile(r"(lsl|[su]xt[wx])(?:\s+#?([0-4]))?")
_PAGE = 4096


def find(place: str, value: Value, site: Site) -> Operand:
    """``x0``, ``42``, ``[sp, 12]``, ``[x0, w1, sxtw 3]``, ``[x0, #:lo12:name]``...

    Raises:
        NotFound: it is somewhere else.
    """
    if place in ("xzr", "wzr"):
        return value.constant(0)
    offset = _offset(place)
    if offset is not None:
        return value.register(offset)
    if _FLOATING.fullmatch(place):
        raise NotFound("registers for floating-point numbers and vectors are not read")
    if place.startswith("[") and place.endswith("]"):
        return _memory([part.strip() for part in place[1:-1].split(",")], value, site)
    constant = _CONSTANT.fullmatch(place)
    if constant is None:
        raise NotFound("its form is not known")
    number, symbol = sum_of(constant[1])
    if symbol is not None:
        raise NotFound("its form is not known")
    return value.constant(number)


def _offset(name: str) -> Optional[int]:
    if name in ("sp", "wsp"):
        return _SP
    if name in _NAMES:
        return 8 * _NAMES[name]
    found = _REGISTER.fullmatch(name)
    return 8 * int(found[2]) if found else None


def _memory(parts: list[str], value: Value, site: Site) -> Operand:
    base = None if parts[0].startswith("w") else _offset(parts[0])
    if base is None or len(parts) > 3:
        raise NotFound("its form is not known")
    number, added = 0, None
    if len(parts) > 1 and (parts[1] in ("xzr", "wzr") or _offset(parts[1]) is not None):
        added = _index(parts[1], parts[2] if len(parts) == 3 else "")
    elif len(parts) == 3:
        raise NotFound("its form is not known")
    elif len(parts) == 2:
        number = _displacement(parts[1], site)
    return Operand("MEMORY", base, value.size, value.signed, number, added)


def _displacement(text: str, site: Site) -> int:
    low = _LOW.fullmatch(text)
    number, symbol = sum_of(low[1] if low else text[1:] if text.startswith("#") else text)
    if low and symbol is not None:
        # The base has its page; files are loaded to whole pages.
        return (site.address_of(symbol) + number) % _PAGE
    if low or symbol is not None or not text.strip("#"):
        raise NotFound("its form is not known")
    return number


def _index(register: str, extension: str) -> Optional[Index]:
    found = _EXTENSION.fullmatch(extension) if extension else None
    narrow = register.startswith("w")
    kind = found[1] if found else "lsl"
    if (extension and not found) or narrow != (kind in ("sxtw", "uxtw")) or register == "sp":
        raise NotFound("its form is not known")
    offset = _offset(register)
    if offset is None:  # xzr: nothing is added
        return None
    shift = int(found[2] or 0) if found else 0
    return Index(offset, 4 if narrow else 8, kind == "sxtw", shift)

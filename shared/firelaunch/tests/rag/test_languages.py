"""Questions in many languages, asked of one index that holds them all."""

# ruff: noqa: RUF001 - the letters of other scripts

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from firelaunch.rag.index.base import Entry
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.rag.index.languages import detect
from firelaunch.rag.index.words import Analyzer
from firelaunch.scope import Scope

ADA = Scope("demo", "ada")

TEXTS = {
    "en-refund": "You may return goods within fourteen days after delivery, and we pay the money back.",
    "en-shipping": "Parcels are delivered to your door by courier within three working days.",
    "de-refund": "Die Rückgabefrist beträgt vierzehn Tage nach Erhalt der Ware, danach ist kein Umtausch möglich.",
    "de-shipping": "Pakete werden innerhalb von drei Werktagen durch einen Kurierdienst zugestellt.",
    "fr-refund": "Vous pouvez renvoyer les articles dans les quatorze jours et nous remboursons le prix payé.",
    "fr-shipping": "Les colis sont livrés à votre porte par un coursier en trois jours ouvrables.",
    "es-refund": "El plazo de devolución es de catorce días desde la entrega y reembolsamos el importe.",
    "es-shipping": "Los paquetes se entregan en su domicilio por mensajería en tres días laborables.",
    "it-refund": "Potete restituire gli articoli entro quattordici giorni e vi rimborsiamo il prezzo pagato.",
    "it-shipping": "I pacchi vengono consegnati a casa vostra da un corriere entro tre giorni lavorativi.",
    "ru-refund": "Товар можно вернуть в течение четырнадцати дней после доставки, и мы вернём деньги.",
    "ru-shipping": "Посылки доставляются курьером до двери в течение трёх рабочих дней.",
    "fi-refund": "Voit palauttaa tuotteet neljäntoista päivän kuluessa ja saat rahasi takaisin.",
    "fi-shipping": "Paketit toimitetaan kotiovellesi kuriirilla kolmen arkipäivän kuluessa.",
    "tr-refund": "Ürünleri teslimattan sonra on dört gün içinde iade edebilirsiniz ve paranızı geri öderiz.",
    "tr-shipping": "Paketler üç iş günü içinde kurye ile kapınıza teslim edilir.",
    "zh-refund": "您可以在收貨後十四天內退貨，我們會退還您支付的款項。",
    "zh-shipping": "包裹將在三個工作日內由快遞員送到您的門口。",
    "ja-refund": "商品到着後十四日以内であれば返品でき、代金を返金いたします。",
    "ja-shipping": "荷物は三営業日以内に宅配業者がご自宅までお届けします。",
    "ko-refund": "상품을 받은 후 십사일 이내에 반품할 수 있으며 결제 금액을 환불해 드립니다.",
    "ko-shipping": "소포는 영업일 기준 삼일 이내에 택배 기사가 문 앞까지 배달합니다.",
    "th-refund": "ลูกค้าสามารถขอคืนเงินได้ภายในสิบสี่วันหลังจากได้รับสินค้า",
    "th-shipping": "พัสดุจะถูกจัดส่งถึงหน้าบ้านโดยพนักงานขนส่งภายในสามวันทำการ",
    "km-refund": "អតិថិជនអាចប្រគល់ទំនិញវិញក្នុងរយៈពេលដប់បួនថ្ងៃ",
    "km-shipping": "កញ្ចប់អីវ៉ាន់នឹងត្រូវដឹកជញ្ជូនដល់ផ្ទះរបស់អ្នក",
}
"""Passages about returns and about delivery, by language."""

QUESTIONS = {
    "en-refund": "money back for returned goods",
    "de-refund": "Welche Fristen gelten für die Rueckgabe?",
    "de-shipping": "Zustellung eines Paketes",
    "fr-refund": "remboursement d'un article renvoye",
    "es-refund": "cuales son los plazos para devoluciones",
    "it-refund": "il rimborso di un articolo",
    "ru-refund": "возврат товаров",
    "ru-shipping": "доставка посылки",
    "fi-refund": "tuotteen palautus",
    "fi-shipping": "paketin toimitus",
    "tr-refund": "ürün iadesi",
    "tr-shipping": "paketin teslimi",
    "zh-refund": "退货",
    "zh-shipping": "快递什么时候送到门口",
    "ja-refund": "返品したい",
    "ja-shipping": "荷物はいつ届く",
    "ko-refund": "반품 방법",
    "ko-shipping": "소포 배달",
    "th-refund": "คืนเงิน",
    "th-shipping": "จัดส่งพัสดุ",
    "km-refund": "ប្រគល់ទំនិញ",
    "km-shipping": "ដឹកជញ្ជូន",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedIndex]:
    index = EmbeddedIndex(tmp_path_factory.mktemp("languages"))
    index.upsert(ADA, "v1", [Entry(name, name, text) for name, text in TEXTS.items()])
    yield index
    index.close()


@pytest.mark.parametrize(("wanted", "question"), QUESTIONS.items())
def test_a_question_in_any_language_finds_its_passage_first(index: EmbeddedIndex, wanted: str, question: str) -> None:
    assert [hit.entry.id for hit in index.matching(ADA, "v1", question, 1)] == [wanted]


@pytest.mark.skipif(detect("This is a sentence in English.")[0] == "", reason="the detector has no wheel here")
@pytest.mark.parametrize(
    ("code", "language"),
    [("de", "german"), ("fr", "french"), ("es", "spanish"), ("it", "italian"), ("ru", "russian"), ("fi", "finnish")],
)
def test_the_language_of_a_passage_is_detected(code: str, language: str) -> None:
    assert detect(TEXTS[f"{code}-refund"])[0] == language


def test_an_english_title_finds_the_english_text_before_a_foreign_one_with_longer_words_that_contain_its_words(
    tmp_path: Path,
) -> None:
    """English words have no fragments. What they share with fragments of another language does not outweigh them."""
    index = EmbeddedIndex(tmp_path)
    texts = {
        "en": "Choose this to print the document. The format of the paper is in the settings of the printer.",
        "de": "Dokumentenformate und Formatierungen: Dokumentation der Formatvorlagen, Dokumentvorlagen und der "
        "Dokumenteigenschaften, in denen die Formatierung der Absätze festgelegt wird.",
    }
    index.upsert(ADA, "v1", [Entry(name, name, text) for name, text in texts.items()])
    for question in ("Document Format", "Format", "document"):
        assert index.matching(ADA, "v1", question, 1)[0].entry.id == "en", question
    index.close()


def test_a_text_with_a_word_and_its_compound_comes_before_one_with_the_word_and_that_before_one_with_the_compound(
    tmp_path: Path,
) -> None:
    index = EmbeddedIndex(tmp_path, Analyzer("german"))
    texts = {
        "both": "Die Versicherung nennt eine Frist, nach der auch die Rückgabefrist der Ware endet.",
        "word": "Die Versicherung nennt eine Frist, nach der auch das Angebot für die Ware endet.",
        "compound": "Die Versicherung nennt auf Seite drei eine Rückgabefrist für die Ware.",
        "neither": "Die Versicherung nennt auf Seite drei eine Adresse für die Rücksendung der Ware.",
    }
    others = {f"other{n}": f"Kapitel {n} handelt von etwas anderem." for n in range(8)}
    index.upsert(ADA, "v1", [Entry(name, name, text) for name, text in {**texts, **others}.items()])
    assert [hit.entry.id for hit in index.matching(ADA, "v1", "Frist", 3)] == ["both", "word", "compound"]
    index.close()


def test_a_file_of_an_earlier_version_is_still_searched_and_written(tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path)
    index.upsert(ADA, "v1", [])
    index.close()
    (path,) = tmp_path.rglob("*.sqlite*")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE terms")
        connection.execute("CREATE VIRTUAL TABLE terms USING fts5 (words)")
        connection.commit()
    index = EmbeddedIndex(tmp_path)
    index.upsert(ADA, "v1", [Entry(name, name, text) for name, text in TEXTS.items() if name[:2] in {"en", "de"}])
    for question, wanted in (("Rückgabefrist", "de-refund"), ("money back for returned goods", "en-refund")):
        assert index.matching(ADA, "v1", question, 1)[0].entry.id == wanted
    index.close()


def test_a_title_is_found_and_so_is_the_name_of_a_file(tmp_path: Path) -> None:
    index = EmbeddedIndex(tmp_path)
    names = ["refund policy 2024.txt", "holiday_calendar.xlsx", "supplierAgreement.docx"]
    entries = [
        Entry(f"e{n}", f"d{n}", "Nothing here says so.", None, {}, {"title": name}) for n, name in enumerate(names)
    ]
    index.upsert(ADA, "v1", entries)
    for n, question in enumerate(["refund policies", "holiday calendar", "agreement of a supplier"]):
        assert index.matching(ADA, "v1", question, 1)[0].entry.id == f"e{n}"
    index.close()


@pytest.mark.parametrize("typed", ["refnud", "refunt", "refuund", "erfund", "reimbursment", "riembursement"])
def test_a_word_that_no_text_has_is_taken_for_the_most_similar_one(tmp_path: Path, typed: str) -> None:
    index = EmbeddedIndex(tmp_path)
    texts = ["A refund takes a week.", "The reimbursement of travel costs.", "Fund raising.", "Reference and round."]
    index.upsert(ADA, "v1", [Entry(f"e{n}", "d", text) for n, text in enumerate(texts)])
    wanted = "e0" if "fun" in typed or "fnu" in typed or "fuu" in typed else "e1"
    assert [hit.entry.id for hit in index.matching(ADA, "v1", f"the {typed}", 5)] == [wanted]
    index.close()

"""Recognises choices that refer to other choices, which therefore need them in source order (docs/spec/iit.md#building-5-choices).

"All of the above", "A and B", "Only A", "1 and 3", in the languages in which lm-eval and VLMEvalKit have multiple-choice data. A false
match costs no more than an unshuffled question.
"""

from __future__ import annotations

import re
from functools import cache

YES_NO = {"yes", "no"}

# Language → phrases that refer to other choices, wherever they occur in a choice; case is ignored.
PHRASES: dict[str, str] = {
    "en": r"\b(?:all|none|both|neither|either|any|each|some|two|three|more than one|one)\s+of\s+"
    r"(?:(?:the|these|those|given|listed|stated|mentioned|provided|possible|available)\s+)*"
    r"(?:above|below|these|those|them|given|listed|options?|choices?|answers?|alternatives|other|others|following|statements)\b"
    r"|\b(?:the|as|all|none|both|any)\s+above\b|\b(?:other|above|previous|preceding)\s+(?:options?|choices?|answers?)\b"
    r"|\bthe\s+(?:one|ones|two|answer|option|choice|statement)s?\s+(?:above|below|before)\b"
    r"|\b(?:all|none|both|neither)\s+(?:(?:of\s+)?(?:the\s+)?(?:answers?|options?|choices?|statements?)\s+)?"
    r"(?:are|is)\s+(?:correct|true|right|wrong|incorrect|false)\b|\bfirst\s+(?:two|three)\s+(?:options|choices|answers|statements)\b",
    "zh": r"以上|上述|前述|[都全均皆](?:不)?[对對]|都是|都不是|[皆均]是|[皆均]非|[都全均皆](?:不)?(?:正确|正確)|[都全均皆][错錯]"
    r"|[没沒]有正[确確]|上面(?=的|都|各|选|選|所)|以下(?=都|皆|均|各)|[两兩二]者[都皆均]|前[两兩二三][项項]",
    "ja": r"上記|以上の|以上すべて|いずれも|どれも|(?:すべて|全て)(?:正しい|当てはまる|該当)|該当なし|どちらも",
    "ko": r"위의?\s*(?:모두|모든|전부|어느|보기|것|답|항목)|모두\s*(?:맞|정답|해당|옳|아니)|상기"
    r"|해당\s*(?:없음|사항)|보기\s*중|정답\s*없음|둘\s*다",
    "ar": r"(?:م?ما|ممّا)\s+(?:سبق|ذُ?كر)|أعلاه|كلاهما"
    r"|(?:كل|جميع|أي|لا\s+شيء|أحد)\s+(?:من\s+)?(?:هذه\s+)?(?:الخيارات|الإجابات|المذكور|البدائل)",
    "fa": r"هیچ\s?(?:کدام|یک)|(?:همه|تمام|هر\s?دو)(?:ی)?\s+(?:موارد|گزینه|این)|موارد\s+(?:بالا|فوق)",
    "ur": r"مندرجہ\s+بالا|ان\s+میں\s+سے\s+(?:کوئی|سب)",
    "he": r"כל\s+(?:התשובות|האמור|הנ)|אף\s+(?:תשובה|אחת|אחד)|לעיל",
    "ru": r"\bвыше(?:перечисл|указ|упомян|назван)|\b(?:вс[её]|все|ничего|ни\s+од\w+|об[ае]|люб\w+|кажд\w+|никак\w+)\s+(?:из\s+)?"
    r"(?:перечисл|указанн|упомянут|привед[её]нн|предложенн|этих|вариант|ответ|утвержд|них)\w*|\bнет\s+(?:правильн|верн)\w+",
    "uk": r"\bвище(?:зазнач|перерах|перел|вказ|навед)|\b(?:ус[еі]|вс[еі]|жод\w+|обидв\w+|нічого)\s+(?:(?:з|із)\s+)?"
    r"(?:перерах|перел|навед|зазнач|варіант|відповід|цих|них)\w*",
    "bg": r"\bвсичк\w+\s+(?:изброен|посочен|отговор|горепосочен)\w*|\bнито\s+ед\w+\s+от|\bгоре(?:изброен|посочен)",
    "sr": r"\b(?:sve|svi|ništa|nijed\w+|oba|obje|obe)\s+(?:od\s+)?(?:naveden|ponuđen|gore)\w*"
    r"|\b(?:све|сви|ништа|ниједн?\w*|оба)\s+(?:од\s+)?(?:наведен|понуђен|горе)\w*",
    "tr": r"\byukarıda\w*|\bhepsi\b|\bhiçbiri\w*|\bher\s+ikisi\b|\btümü\b|\bikisi\s+de\b",
    "pt": r"\b(?:tod[oa]s?|nenhum[a]?|ambos|ambas|qualquer|tudo|nada)\s+(?:(?:uma?|as?|os?|das?|dos?|de|duas|dois)\s+)*"
    r"(?:acima|anterior\w*|alternativas?|opções|opção|respostas?|afirma\w+|itens|mencionad\w+|citad\w+|listad\w+|del[ea]s)\b"
    r"|\b(?:alternativas?|opções|respostas?|[dao]s)\s+(?:acima|anteriores)\b",
    "es": r"\b(?:tod[oa]s?|ning[uú]n[oa]?|amb[oa]s|cualquiera|nada)\s+(?:(?:de|l[oa]s?|el|est[oa]s|dos)\s+)*"
    r"(?:anterior\w*|opci[oó]n\w*|respuestas?|alternativas?|arriba|mencionad\w+|enumerad\w+|ell[oa]s)\b",
    "ca": r"\b(?:tot[es]?s?|cap|amb(?:dós|dues))\s+(?:(?:de|les|els|aquest\w*)\s+)*(?:anterior\w*|opcion\w*|respost\w*)",
    "eu": r"\baurreko\s+(?:guzti|denak|bat\s+ere)\w*|\bgoiko\s+(?:guzti|bat\s+ere)\w*",
    "fr": r"\bci-dessus\b|\bqui\s+précède\b|\b(?:tou(?:te?|te?s|s)|aucune?|chacune?)\s+(?:(?:de|des|d['’]entre|ces?|les|cette)\s+)*"
    r"(?:réponses?|propositions?|options?|choix|affirmations?|elles|eux|ceux-ci|celles-ci)\b|\bles\s+deux\s+(?:réponses|propositions|options)\b",
    "de": r"\b(?:oben|vor)\s?(?:genannt|stehend|erwähnt|aufgeführt)\w*|\bobige\w*"
    r"|\b(?:alles?|keine[rs]?|nichts|beides?|jede[rs]?|eine[rs]?)\s+(?:(?:der|die|von|den|diese[rnms]?|des)\s+)*"
    r"(?:oben\w*|genannt\w*|antwort\w*|optionen|aussagen|möglichkeiten|davon|aufgeführt\w*|vorherig\w*|angegeben\w*)\b",
    "it": r"\bdi\s+cui\s+sopra\b|\b(?:tutt[eio]|nessun[aoe]?|entramb[ei]|ambedue)\s+(?:(?:di|le|i|gli|delle|dei|degli|quest[ei]|due)\s+)*"
    r"(?:precedent[ei]|rispost[ea]|opzion[ei]|sopra|alternativ[ea]|affermazion[ei]|elencat[ei]|suddett[ei]|menzionat[ei])\b",
    "nl": r"\bbovenstaande\b|\bbovengenoemde\b|\b(?:alle|geen|beide)\s+(?:(?:van|het|de|deze)\s+)*(?:antwoorden|opties|genoemde)\b",
    "sv": r"\bovanstående\b|\b(?:alla|inget|ingen|inga|båda)\s+av\s+(?:dessa|de|dem|alternativen)\b",
    "da": r"\bovenstående\b|\bovennevnte\b|\b(?:alle|ingen|intet|begge)\s+a[fv]\s+(?:disse|de|dem|delene)\b",  # and Norwegian
    "is": r"\bofangreind\w*|\b(?:allt|ekkert|bæði)\s+(?:af\s+)?ofan\w*",
    "fi": r"\b(?:kaikki|ei\s+mikään|molemmat)\s+(?:edell\w+|yllä\w*|näistä|vaihtoehdo\w*)",
    "pl": r"\bpowyższ\w+|\b(?:wszystk\w+|żadn\w+|ob(?:a|ie)|każd\w+)\s+(?:z\s+)?(?:wymienion|podan|odpowiedz|opcj|tych|nich)\w*",
    "cs": r"\b(?:výše|vyššie)\s+uveden\w*"  # and Slovak
    r"|\b(?:vš\w+|žádn\w+|žiadn\w+|ob[ěae]\w*)\s+(?:z\s+)?(?:výše|vyššie|uveden|možnost|odpověd|odpoved|predch|předch|těchto|týchto)\w*",
    "hu": r"\b(?:a\s+)?fentiek\w*|\bmindegyik\b|\begyik\s+sem\b|\bmindkettő\b",
    "ro": r"\b(?:toate|nici\s?un\w*|ambele|oricare)\s+(?:dintre\s+|din\s+)?(?:cele|variantele|răspunsurile|opțiunile|acestea)\b"
    r"|\bde\s+mai\s+sus\b",
    "el": r"\b(?:παραπάνω|ανωτέρω)\b|\b(?:όλ\w+|κανέν\w+|καμία)\s+(?:από\s+)?(?:τ\w+\s+)?προηγούμεν\w*",
    "hy": r"վերը\s+նշված|բոլոր\s+(?:պատասխան|տարբերակ)",
    "hi": r"उपर्युक्त|उपरोक्त|इनमें\s+से|दोनों\s+(?:सही|गलत)|माथिका|वरील",  # and Nepali, Marathi
    "bn": r"উপরের\s+(?:সব|কোন|সকল)|উপরোক্ত|উভয়ই|কোনোটিই|কোনটিই",
    "gu": r"ઉપરોક્ત|ઉપરના\s+(?:બધા|તમામ|એક)|આમાંથી",
    "ta": r"மேற்கண்ட|மேலே\s+உள்ள|மேற்கூறிய|இவை\s+அனைத்தும்|இவற்றில்",
    "te": r"పైవన్నీ|పైవేవీ|పైన\s+(?:పేర్కొన్న|చెప్పిన)|పై\s+(?:అన్నీ|వన్నీ|వాటిలో)",
    "kn": r"ಮೇಲಿನ\s+(?:ಎಲ್ಲ|ಯಾವು)|ಇವುಗಳಲ್ಲಿ",
    "ml": r"മുകളിൽ\s+(?:പറഞ്ഞ|കൊടുത്ത|നൽകിയ)|ഇവയെല്ലാം|ഇവയൊന്നും",
    "id": r"\b(?:semua|tidak\s+(?:ada|satu\s?pun)|bukan|kedua\w*|salah\s+satu)\s+(?:\w+\s+){0,2}?(?:di\s+atas|tersebut|jawaban|pilihan)\b",
    "vi": r"\b(?:kể|nêu)\s+trên\b|\btất\s+cả\s+(?:các\s+)?(?:đáp\s+án|phương\s+án|ý|câu|lựa\s+chọn|những)\b"
    r"|\b(?:đáp\s+án|phương\s+án|lựa\s+chọn|ý|câu|điều)\s+(?:nào\s+)?(?:ở\s+)?trên\b|\bđều\s+(?:đúng|sai)\b",
    "th": r"ทุกข้อ|ไม่มีข้อ|ข้างต้น|ถูกทั้ง|ผิดทั้ง|ทั้งหมดที่กล่าว|ข้อ\s*[กขคง]",
    "sw": r"\bhapo\s+juu\b|\bhakuna\s+(?:kati|hata|jibu)\b",
}

# What a list of choices is called: a letter of the choices' marks, a number, or a circled or Roman one.
_LETTERS = "A-JＡ-ＪА-Еא-הㄱ-ㅂア-オก-ง"
_LATIN = r"\(?[A-Ja-j]\)?"
_MARK = rf"[(（\[]?(?:[{_LETTERS}①-⑩]|أ|ب|ج|د|[1-9]|VI{{0,3}}|I{{1,3}}|IV)[)）\].]?"
_AND = (
    r"and|or|nor|ve|veya|ya\s+da|e|y|o|ou|et|und|oder|en|of|och|eller|og|i|lub|oraz|a|nebo|és|vagy|și|sau|και|ή|и|или|і|та|або|dan|atau|và|hoặc"
    r"|и|или|और|या|এবং|ও|และ|กับ|หรือ|ja|tai|ו|או|أو"
)
_ONLY = (
    r"only|just|solo|sólo|solamente|soltanto|seulement|uniquement|nur|somente|apenas|só|только|лише|тільки|само|yalnız|yalnızca|sadece"
    r"|فقط|केवल|chỉ|chỉ\s+có|hanya|alleen|tylko|bara|endast|kun|jen|pouze|csak|doar|numai|només|μόνο|শুধু|เฉพาะ"
)
_KINDS = r"both|either|neither|options?|choices?|answers?|statements?|items?"


@cache
def _phrases(ascii_text: bool) -> re.Pattern[str]:
    """The phrases of all languages; for a text in ASCII of those that have an ASCII letter, which takes half the time."""
    possible = [phrases for phrases in PHRASES.values() if not ascii_text or re.search(r"(?<!\\)[A-Za-z]", phrases)]
    return re.compile("|".join(possible), re.IGNORECASE)


@cache
def _combinations(ascii_text: bool) -> re.Pattern[str]:
    """Letters of choices joined within a text: "Both A and B", "A、B"."""
    latin = rf"(?<![\w.]){_LATIN}\s*(?:,\s*{_LATIN}\s*)*,?\s*(?:and|or|&|nor)\s*{_LATIN}(?![\w.])"
    unspaced = rf"[{_LETTERS}①-⑩]\s*(?:[和与與或及、・]|[와과](?=\s)|と|や)\s*[{_LETTERS}①-⑩]|[①-⑩]{{2}}"
    return re.compile(f"(?i:{latin})" if ascii_text else rf"(?i:{latin})|{unspaced}")


@cache
def _marks_only() -> re.Pattern[str]:
    """A choice that is nothing but marks of other choices: "1 and 3", "Only A", "I, II and III only", "仅①", "A만"."""
    several = rf"{_MARK}(?:\s*[,，、;]\s*{_MARK})*[,，]?\s+(?:(?:{_AND})\s+|&\s*|و\s*){_MARK}"
    roman = r"(?:VI{0,3}|I{1,3}|IV)(?:\s*,\s*(?:VI{0,3}|I{1,3}|IV))+"
    lead, only = rf"(?:(?i:{_KINDS})\s+)*", rf"(?i:{_ONLY})"
    alone = rf"{only}\s+{lead}(?:{several}|{_MARK})|(?:{several}|{_MARK})\s+{only}"
    unspaced = rf"(?:只有|只|仅|僅|仅有)\s*{_MARK}|{_MARK}\s*(?:のみ|だけ|만)"
    return re.compile(rf"{lead}(?:{several}|{roman}|{alone}|{unspaced})\s*[.。]?")


def refers_to_others(choice: str) -> bool:
    """Whether a choice refers to other choices, so that its meaning depends on their order or their letters."""
    text = choice.strip()
    ascii_text = text.isascii()
    return bool(_phrases(ascii_text).search(text) or _combinations(ascii_text).search(text) or _marks_only().fullmatch(text))


def keeps_order(choices: tuple[str, ...]) -> bool:
    """Whether choices must stay in source order: yes/no, or one of them refers to others."""
    return {choice.casefold().strip(" .") for choice in choices} == YES_NO or any(map(refers_to_others, choices))

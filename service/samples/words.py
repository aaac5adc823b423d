"""What samples say: names of people and places in several scripts, and a few words."""

from collections.abc import Iterator, Sequence

NAMES: Sequence[tuple[str, str, str]] = (
    # How a full name is put together, then first names and surnames, each with what an email address has for it.
    (
        "{0} {1}",
        "Ada=ada, Grace=grace, Alan=alan, Mary=mary",
        "Lovelace=lovelace, Hopper=hopper, Turing=turing, Shelley=shelley",
    ),
    (
        "{0} {1}",
        "José=jose, Zoë=zoe, Íñigo=inigo, Chloé=chloe",
        "Núñez=nunez, Müller=mueller, Sørensen=sorensen, Çelik=celik",
    ),
    ("{0} {1}", "Łukasz=lukasz, Zofia=zofia, Agnieszka=agnieszka", "Żak=zak, Wójcik=wojcik, Zając=zajac"),
    (
        "{0} {1}",
        "Анна=anna, Дмитро=dmytro, Ольга=olga, Сергей=sergey",
        "Шевченко=shevchenko, Коваленко=kovalenko, Седых=sedykh",
    ),
    ("{0} {1}", "Ελένη=eleni, Μαρία=maria, Σοφία=sofia", "Παπαδοπούλου=papadopoulou, Οικονόμου=oikonomou"),
    (
        "{1} {0}",
        "健一=kenichi, さくら=sakura, 翔太=shota, 美咲=misaki",
        "小中=konaka, 山田=yamada, 佐藤=sato, 鈴木=suzuki",
    ),
    ("{1}{0}", "小明=xiaoming, 娜=na, 秀英=xiuying, 伟=wei", "王=wang, 李=li, 张=zhang, 陈=chen"),
    ("{1}{0}", "민준=minjun, 서연=seoyeon, 지우=jiwoo", "김=kim, 이=lee, 박=park"),
    ("{0} {1}", "محمد=mohammed, فاطمة=fatima, علي=ali", "مصطفى=mustafa, محمود=mahmoud, السيد=elsayed"),
    ("{0} {1}", "נועה=noa, דוד=david, תמר=tamar", "כהן=cohen, לוי=levi"),
    ("{0} {1}", "प्रिया=priya, अर्जुन=arjun, आशा=asha", "शर्मा=sharma, वर्मा=verma"),
    ("{0} {1}", "สมชาย=somchai, มาลี=malee", "ใจดี=jaidee, สุขใจ=sukjai"),
    ("{1} {0}", "Thị Hoa=thi.hoa, Văn Minh=van.minh", "Nguyễn=nguyen, Trần=tran"),
)
PLACES = (
    {"street": "{} St James's Square", "city": "London", "zipcode": "SW1Y 4JH", "country": "GB"},
    {"street": "Unter den Linden {}", "city": "Berlin", "zipcode": "10117", "country": "DE"},
    {"street": "Rúa do Franco {}", "city": "Santiago de Compostela", "zipcode": "15705", "country": "ES"},
    {"street": "ul. Świętokrzyska {}", "city": "Łódź", "zipcode": "90-001", "country": "PL"},
    {"street": "ул. Льва Толстого, {}", "city": "Алматы", "zipcode": "050010", "country": "KZ"},
    {"street": "вул. Хрещатик, {}", "city": "Київ", "zipcode": "01001", "country": "UA"},
    {"street": "Ερμού {}", "city": "Αθήνα", "zipcode": "105 63", "country": "GR"},
    {"street": "长安街{}号", "city": "北京", "zipcode": "100006", "country": "CN"},
    {"street": "丸の内1-{}-1", "city": "東京", "zipcode": "100-0005", "country": "JP"},
    {"street": "세종대로 {}", "city": "서울", "zipcode": "04524", "country": "KR"},
    {"street": "شارع التحرير {}", "city": "القاهرة", "zipcode": "11511", "country": "EG"},
    {"street": "{} महात्मा गांधी मार्ग", "city": "मुंबई", "zipcode": "400001", "country": "IN"},
    {"street": "{} Market St", "city": "San Francisco", "zipcode": "94105", "country": "US"},
)
THINGS = ("Analytical Engine", "Theodolite", "Sextant", "Astrolabe", "Orrery", "Barometer", "Slide rule", "Chronometer")
SENTENCES = (
    "Reads more than is good for the eyes.",
    "Collects maps of places that no longer exist.",
    "Écrit tous les jours, même le dimanche.",
    "Любит долгие прогулки вдоль реки.",
    "喜欢喝茶和下棋。",
    "In good order, with all its parts.",
)
WORDS = ("blue", "early", "quiet", "brass", "north", "vip", "new", "rare", "数学", "музыка")
CURRENCIES = ("EUR", "USD", "GBP", "JPY")


def _people() -> Iterator[tuple[str, str]]:
    for pattern, *halves in NAMES:
        first_names, surnames = ([name.split("=") for name in half.split(", ")] for half in halves)
        for first_name, first in first_names:
            for surname, last in surnames:
                yield pattern.format(first_name, surname), f"{first}.{last}"


PEOPLE = tuple(_people())
"""Full names, and what their email addresses start with."""

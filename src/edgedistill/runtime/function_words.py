"""Frequent short words by language: what tells written languages of one script apart.

Only words that carry no topic (articles, pronouns, prepositions, auxiliaries, question words).
Single ASCII letters are left out: they occur in every language.
"""

from __future__ import annotations

LANGUAGE_NAMES = {
    "da": "Danish",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "id": "Indonesian",
    "it": "Italian",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "sv": "Swedish",
    "tr": "Turkish",
    "uk": "Ukrainian",
}

_WORDS = {
    "da": """
        af alle at blev bliver da de dem den denne der deres det dette dig din dit du efter
        eller en er et for fra få får gør han har hende her hun hvad hvem hver hvilken hvis hvor
        hvordan hvorfor hvornår ikke ind jeg jer kan kunne lige man med meget men mig min mit
        mod må ned nogen noget nogle nu når og også om op os over på selv sig sin skal skulle
        som så til ud under var ved vi vil ville være været
    """,
    "de": """
        aber alle als also am an auch auf aus bei bin bis bitte brauche da damit dann das dass
        dein deine dem den denn der des dich die dies diese diesem diesen dieser dieses dir doch
        du durch ein eine einem einen einer eines er es etwas euch euer für gegen gibt habe
        haben hast hat hatte heute hier ich ihm ihn ihnen ihr ihre ihren im immer in ist ja
        jetzt kann kannst kein keine keinen können könnte man mehr mein meine meinem meinen
        meiner mich mir mit muss möchte nach nicht nichts noch nur ob oder ohne schon sehr sein
        seine sich sie sind so soll über um und uns unser unter viel vom von vor wann war warum
        was wegen weil wenn wer werden wie wieder will wir wird wo wurde zu zum zur zwischen
    """,
    "en": """
        about above after again against ago all already also am an and another any anyone
        anything are as at away back be because been before being below best between both but
        by call can cannot check come could did do does doing don done down during each else
        enough even ever every few find first for from get give given go going good got had has
        have having he hello help her here hers hey hi him his how if in into is isn it its
        just know last less let like list long look made make many may me mean might mine more
        most much must my myself name need never new next no not nothing now of off ok okay old
        on once one only or order other our out over own per please put really right same say
        see set she should show since so some someone something still stop such take tell than
        thank thanks that the their them then there these they thing things this those through
        till time to today tomorrow too under until up us use using very want was way we well
        went were what when where which while who whose why will with within without won work
        would yes yet you your yours
    """,
    "es": """
        al algo alguna alguno ante antes aquí así aunque bien cada como con contra cual cuando
        cuál cuándo cuánto cuántos cómo de del desde donde dos durante dónde el ella ellos en
        entre era eres es esa ese eso esta estaba estado estamos estar este esto estos estoy
        está están fue fueron gracias ha haber había hace hacer han hasta hay he hola hoy la las
        le les lo los me mi mis mucho muchos muy más necesito ni no nos nosotros nuestra nuestro
        nunca para pero poco por porque puede puedes puedo qué que quien quiero quién se sea ser
        si siempre sin sobre solo son soy su sus también tan te tengo tiene tienen todo todos tu
        tus un una uno unos usted ustedes voy ya yo él ésta éste sí
    """,
    "fr": """
        alors au aucun aussi aux avant avec avez avoir avons bien bonjour car ce ceci cela ces
        cet cette chez comme comment combien dans de depuis des deux donc du elle elles en encore
        entre est et étaient était être eu eux fait faire faut ici il ils je la le les leur
        leurs lui là ma mais me merci mes moi moins mon même ne nos notre nous on ont ou où par
        parce pas pendant peu peut peux plus pour pourquoi pouvez puis quand que quel quelle
        quelles quels qui quoi sa sans se ses si son sont sous suis sur ta tes toi ton tous tout
        toute toutes trop très tu un une veux vers voici vos votre voudrais vous à ça
    """,
    "id": """
        ada adalah akan aku anda apa apakah atau bagaimana bagi bahwa banyak beberapa belum
        berapa bisa boleh dalam dan dapat dari dengan di dia hanya harus ini itu jadi jangan
        jika juga kalau kami kamu kapan karena ke kepada kita lagi lebih mana mau mengapa mereka
        mohon oleh pada paling perlu saat saja sama sampai sangat saya sebagai sebelum sedang
        semua seperti setelah siapa sini situ sudah supaya tanpa tapi telah terima tetapi tidak
        tolong untuk yang
    """,
    "it": """
        abbiamo adesso agli ai al alla alle allo anche ancora avere bene che chi ci ciao ciò
        come con cosa così cui da dagli dai dal dalla dalle dei del della delle dello devo di
        dopo dove due ed era erano essere fa fare fino gli grazie ha hai hanno ho il in io la le
        lei li lo loro lui ma me mi mia mie miei mio molto ne negli nei nel nella nelle no noi
        non nostra nostro nulla ogni ora per perché più poi possiamo posso prima può qual quale
        quali quando quanto quella quelle quello questa queste questi questo qui sarà se sei
        sempre senza si sia siamo siete solo sono sta stato su sua sue sugli sui sul sulla suo
        suoi tra tu tua tuo tutti tutto un una uno voi vorrei vostro è
    """,
    "nl": """
        aan al alle als altijd bent ben bij dan dat de deze die dit doen door dus een eens en er
        geen had hadden heb hebben heeft hem hen het hier hij hoe hoeveel hun ik in is ja je
        jij jouw jullie kan kun kunnen kunt maar me meer men met mij mijn moet moeten mogen na
        naar niet niets nog nu of om omdat onder ons onze ook op over te toch tot tussen u uit
        uw van vanaf veel voor waar waarom wanneer want waren was wat we wel welke werd wie wij
        wil wilt worden wordt zal ze zelf zich zij zijn zo zonder zou zouden
    """,
    "pl": """
        aby albo ale ani bardzo bez był była było były być będzie chce chcę ci co czy czym dla
        do dziś gdy gdzie go ich ile jak jaka jaki jakie jako jednak jego jej jest jestem jeszcze
        jeśli już kiedy kto która które którego której który których mam mi mnie moim moja moje
        moją mojego mojej mogę może można mój na nad nam nas nasz nie nic niż od oraz po pod
        ponieważ proszę przed przez przy się są ta tak także tam te tego tej ten teraz to tu
        tylko tym wszystko że za ze żeby
    """,
    "pt": """
        ainda algum alguma antes ao aos apenas as até bem bom cada com como contra da das de
        dela dele depois do dos durante ela elas ele eles em entre era essa esse esta estamos
        estar estava este estou está estão eu faz fazer foi foram há isso isto já lhe lá mais
        mas me mesmo meu meus minha minhas muito muitos na nas nem no nos nossa nosso não nós o
        obrigado olá onde os ou para pela pelas pelo pelos pode podem poderia por porque posso
        pouco preciso qual quais quando quanto quantos que quem quero se seja sem sempre ser seu
        seus sobre somos sou sua suas são só também te tem tenho ter teu todos toda tudo tão um
        uma umas uns você vocês vou à às é
    """,
    "ru": """
        без был была были было быть вам вас ваш во вот все всё вы где да для до его ее если есть
        еще ещё её же за здесь из или им их как какая какие какой ко когда который которые
        кто куда ли либо между меня мне много мной могу может можно мой моя моё мои мы на над
        надо нам нас наш не него нет ни никогда ничего но нужно об обо он она они оно от очень
        по под пожалуйста после потом потому почему при про сейчас сегодня себя сколько со так
        также там тебя тем теперь то тоже только том тот ты у уже хочу хочет чего чем через что
        чтобы эта эти это этого этой этом этот я
    """,
    "sv": """
        alla att av behöver bara blev bli blir de dem den denna deras dess det detta dig din
        ditt du där då efter eller en er ett fick finns från få får för göra ha hade han har hej
        henne hon hur här i icke in inte ja jag kan kunde man med men mer mig min mina mitt mot
        mycket måste ni någon något några när nu nästa och också om oss på samma sedan sig sin
        sitt ska skall skulle som så till tack under upp ut utan vad var varför varje vara vem
        vi vid vilja vilka vilken vill åt är över
    """,
    "tr": """
        ama ancak artık bana bazı belki ben beni benim bir biraz biri biz bu bunu bunun burada
        böyle bütün çok çünkü da daha de değil diye en evet gibi göre hangi hatta hayır hem
        henüz hep hepsi her hiç için ile ise istiyorum kadar kaç ki kim kimse lütfen mi mu mü mı
        nasıl ne neden nerede nereye niçin niye olan olarak oldu olduğu olmak olur onlar onu
        onun orada oysa sadece sana sen senin siz sizin sonra şey şimdi şu tüm var ve veya ya
        yani yapmak yok zaman
    """,
    "uk": """
        але багато без бути був була були було вам вас ваш ви від він вона вони воно все вже де
        для до дуже є її їх його за зараз звідки зі із якщо як яка який які якого якій йому коли
        кожен котрий куди лише мене мені між мій моя моє мої можна може можу ми на над нам нас
        наш не немає нема ні ніколи нічого об один під після по потім потрібно при про прошу
        сьогодні себе скільки собі та так також там твій те тебе тепер ти тільки то тобі того
        тому треба тут у хочу хоче хто це цей цього цьому ця ці через чи чому що щоб я
    """,
}

FUNCTION_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split()) for language, words in _WORDS.items()
}
"""Function words of each language, in small letters."""

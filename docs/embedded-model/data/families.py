"""Everyday tools with natural questions: weather, sums, messages, bookings and so on.

Question templates name the parameters by position (``{0}``, ``{1}``); one that leaves a parameter out leaves it out of the call too.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Names, descriptions, parameters (names, kind, description) and questions of tools that do one thing."""

    names: str
    descriptions: str
    parameters: tuple[tuple[str, str, str], ...]
    questions: tuple[str, ...]
    answer: str = ""


FAMILIES: tuple[Family, ...] = (
    Family(
        "get_weather weather current_weather weather_lookup getWeather check_weather forecast",
        "Current weather in a city.|Get the weather for a place|Tells how the weather is now|Return the current weather in a given location.",
        (("city location place town where", "city", "Name of the city"), ("unit units scale", "enum:celsius|fahrenheit", "Temperature unit")),
        (
            "What is the weather in {0}?", "What's the weather like in {0}?", "How is the weather in {0} today?", "Is it raining in {0}?", "Tell me the weather in {0}",
            "How warm is it in {0} in {1}?", "Weather in {0} in {1} please", "Is it cold in {0}?", "What is the temperature in {0}?", "weather {0}",
            "Como está o tempo em {0}?", "Qual é a temperatura em {0} em {1}?", "Está chovendo em {0}?", "Qual é o clima em {0}?",
        ),
        "The weather in {0} is {r}.",
    ),
    Family(
        "add sum plus add_numbers addNumbers sum_two adder",
        "Add two numbers.|Returns the sum of two integers|Adds a and b",
        (("a x first left n1", "int", ""), ("b y second right n2", "int", "")),
        (
            "What is {0} plus {1}?", "Add {0} and {1}", "What is {0} + {1}?", "Sum {0} and {1}, please", "How much is {0} plus {1}?", "Please add {0} to {1}",
            "Quanto é {0} mais {1}?", "Some {0} e {1}", "{0}+{1}?",
        ),
        "The sum is {r}.",
    ),
    Family(
        "multiply times product mul multiply_numbers",
        "Multiply two numbers.|Returns the product of two integers",
        (("a x first left n1", "int", ""), ("b y second right n2", "int", "")),
        ("What is {0} times {1}?", "Multiply {0} by {1}", "What is {0} * {1}?", "How much is {0} times {1}?", "Quanto é {0} vezes {1}?", "Multiplique {0} por {1}"),
        "The product is {r}.",
    ),
    Family(
        "subtract minus difference sub",
        "Subtract the second number from the first.|Returns the difference of two numbers",
        (("a x first left n1", "int", ""), ("b y second right n2", "int", "")),
        ("What is {0} minus {1}?", "What is {0} - {1}?", "Take {0} minus {1}", "Quanto é {0} menos {1}?"),
        "The difference is {r}.",
    ),
    Family(
        "divide quotient div",
        "Divide the first number by the second.|Returns the quotient",
        (("a x dividend numerator", "int", ""), ("b y divisor denominator", "int", "")),
        ("What is {0} divided by {1}?", "Divide {0} by {1}", "What is {0} / {1}?", "Quanto é {0} dividido por {1}?", "Divida {0} por {1}"),
        "The quotient is {r}.",
    ),
    Family(
        "send_email email_send mail sendMail send_mail",
        "Send an e-mail.|Sends a mail to an address",
        (("to recipient address email", "email", "Address of the recipient"), ("subject title", "phrase", "Subject line"), ("body message text content", "sentence", "The text of the mail")),
        (
            'Send an email to {0} with the subject "{1}" and the text "{2}"', "Email {0}, subject: {1}, body: {2}", 'Write to {0} about "{1}": {2}', 'Send {0} a mail saying "{2}"',
            'Mail "{2}" to {0}', 'Envie um email para {0} com o assunto "{1}" e o texto "{2}"', 'Mande um email para {0} dizendo "{2}"',
        ),
    ),
    Family(
        "send_message message text_person sms sendMessage notify",
        "Send a message to a person.|Sends a text message",
        (("recipient to person contact name", "person", "Who receives it"), ("message text body content", "sentence", "What to say")),
        (
            'Send "{1}" to {0}', "Tell {0}: {1}", 'Send a message to {0} saying "{1}"', 'Message {0}: "{1}"', "Text {0} that {1}", 'Let {0} know: "{1}"',
            'Mande uma mensagem para {0}: "{1}"', 'Diga a {0}: "{1}"',
        ),
    ),
    Family(
        "set_reminder remind create_reminder addReminder reminder",
        "Set a reminder.|Reminds the user of something at a time",
        (("text what title task message", "phrase", "What to remember"), ("time at when hour", "time", "Time of day"), ("date day on", "date", "The day")),
        (
            'Remind me of "{0}" at {1}', "Remind me at {1} about {0}", "Set a reminder for {0} at {1} on {2}", "Reminder: {0}, {2}, {1}", "On {2} at {1} remind me of {0}",
            "Lembre-me de {0} às {1}", "Crie um lembrete para {0} em {2} às {1}",
        ),
    ),
    Family(
        "convert_currency currency exchange convertCurrency exchange_money",
        "Convert an amount of money between currencies.|Currency conversion",
        (("amount value sum", "decimal", "Amount of money"), ("from_currency source base from", "currency", "Currency to convert from"), ("to_currency target to", "currency", "Currency to convert to")),
        (
            "Convert {0} {1} to {2}", "How much is {0} {1} in {2}?", "What are {0} {1} worth in {2}?", "Change {0} {1} into {2}", "Quanto vale {0} {1} em {2}?", "Converta {0} {1} para {2}",
        ),
        "That is {r}.",
    ),
    Family(
        "translate translation translate_text translator",
        "Translate a text into another language.|Translates text",
        (("text content phrase source_text", "phrase", "The text to translate"), ("target_language language to lang", "language", "Language of the result")),
        (
            'Translate "{0}" into {1}', 'How do you say "{0}" in {1}?', "Translate to {1}: {0}", 'What is "{0}" in {1}?', 'Traduza "{0}" para {1}', 'Como se diz "{0}" em {1}?',
        ),
    ),
    Family(
        "get_time current_time clock time_in world_clock",
        "Current time in a city.|Tells what time it is somewhere",
        (("city location place timezone_city", "city", "Name of the city"),),
        ("What time is it in {0}?", "Tell me the time in {0}", "Current time in {0}?", "What's the time in {0} now?", "Que horas são em {0}?"),
        "It is {r} in {0}.",
    ),
    Family(
        "search web_search search_web find_on_web lookup",
        "Search the web.|Finds pages about a topic",
        (("query q text search", "phrase", "What to search for"), ("max_results limit count k", "int", "How many results")),
        (
            'Search for "{0}"', "Search the web for {0}", "Find pages about {0}", "Look up {0} and give me {1} results", "Show me {1} results about {0}", "Look for {0} online",
            "Procure por {0}", "Busque {0} na internet",
        ),
    ),
    Family(
        "book_flight flight find_flight search_flights reserve_flight",
        "Book a flight between two cities.|Search flights",
        (("origin from_city departure source", "city", "City of departure"), ("destination to_city arrival target", "city", "City of arrival"), ("date day departure_date", "date", "Day of the flight")),
        (
            "Book a flight from {0} to {1} on {2}", "I need a flight from {0} to {1}", "Fly me to {1} from {0} on {2}", "Find flights from {0} to {1} for {2}", "I want to go from {0} to {1} on {2}",
            "Reserve um voo de {0} para {1} em {2}", "Quero voar de {0} para {1}",
        ),
    ),
    Family(
        "book_hotel hotel reserve_room find_hotel",
        "Book a hotel room.|Reserve a room in a city",
        (("city location place", "city", "City of the hotel"), ("check_in arrival start", "date", "First night"), ("nights duration days", "int", "Number of nights"), ("guests people persons", "int", "Number of guests")),
        (
            "Book a hotel in {0} from {1} for {2} nights", "Find a room in {0} for {3} guests, {2} nights from {1}", "I need a hotel in {0} for {3} people", "Reserve um hotel em {0} a partir de {1} por {2} noites",
        ),
    ),
    Family(
        "get_stock_price stock quote stock_price share_price",
        "Price of a share.|Gets the current stock price",
        (("symbol ticker company", "code", "The ticker symbol"),),
        ("What is the stock price of {0}?", "How much is one {0} share?", "Price of {0} stock?", "Quote for {0}", "Qual é o preço da ação {0}?"),
        "The price is {r}.",
    ),
    Family(
        "define dictionary define_word word_definition meaning",
        "Look up the meaning of a word.|Defines a word",
        (("word term entry", "noun", "The word"),),
        ('What does "{0}" mean?', "Define {0}", "What is the meaning of {0}?", "Look up the word {0} in the dictionary", 'O que significa "{0}"?', "Defina {0}"),
    ),
    Family(
        "play_song play music play_music",
        "Play a song.|Starts music",
        (("title song track name", "phrase", "Title of the song"), ("artist by singer", "person", "Who sings it")),
        ("Play {0} by {1}", 'Play "{0}"', "I want to hear {0} by {1}", 'Put on the song "{0}"', "Toque {0} de {1}"),
    ),
    Family(
        "create_event add_event schedule calendar_add schedule_meeting",
        "Create an event in the calendar.|Schedule a meeting",
        (("title name summary", "phrase", "Title of the event"), ("date day when", "date", "The day"), ("time start start_time", "time", "When it starts"), ("attendees people guests participants", "array:name", "Who comes")),
        (
            'Create an event "{0}" on {1} at {2}', "Schedule {0} for {1} at {2} with {3}", "Put {0} in my calendar on {1}", "Plan a meeting about {0} on {1} at {2} with {3}",
            'Crie um evento "{0}" em {1} às {2}', "Agende {0} para {1} às {2} com {3}",
        ),
    ),
    Family(
        "get_user find_user user_info lookup_user getUser",
        "Get a user by id.|Looks up a person in the database",
        (("user_id id uid", "int", "Number of the user"),),
        ("Get user {0}", "Who is user {0}?", "Show me the user with id {0}", "Look up user number {0}", "Quem é o usuário {0}?", "Find the user {0}"),
    ),
    Family(
        "order_status track_order get_order trackOrder where_is_order",
        "Status of an order.|Where an order is now",
        (("order_id id order number", "code", "Number of the order"),),
        ("Where is my order {0}?", "What is the status of order {0}?", "Track order {0}", "Has order {0} been sent?", "Onde está o meu pedido {0}?", "Qual é o status do pedido {0}?"),
        "Order {0}: {r}.",
    ),
    Family(
        "magic_function some_function secret_function mystery compute f magic transform process_number special_function",
        "Applies a magic function to an input.|Compute a special value||A function of one number",
        (("input x value n number", "int", ""),),
        (
            "What is the value of {name}({0})?", "What is the value of {name}({0})? Use the tool.", "Use the tool to get the value of {name}({0})", "Call {name} with {0}", "What does {name}({0}) give?",
            "What is {name} of {0}?", "Compute {name}({0})", "{name}({0})", "Apply {name} to {0}", "Qual é o valor de {name}({0})?",
        ),
        "The value is {r}.",
    ),
    Family(
        "random_number roll dice pick_number random_int",
        "Pick a random number.|Random integer between two bounds",
        (("low min minimum start", "int", "Lowest number"), ("high max maximum end", "int", "Highest number")),
        ("Pick a random number between {0} and {1}", "Give me a random number from {0} to {1}", "Choose any number between {0} and {1}", "Sorteie um número entre {0} e {1}"),
        "The number is {r}.",
    ),
    Family(
        "set_light light lamp_control switch_light lights",
        "Switch a light on or off.|Controls the lights of a room",
        (("room where place", "noun", "The room"), ("on state enabled", "bool:on|off", "True for on"), ("brightness level", "int", "From 0 to 100")),
        ("Turn the light in the {0} {1}", "Switch {1} the {0} light", "Lights {1} in the {0}", "Light in the {0} {1} with brightness {2}"),
    ),
    Family(
        "set_temperature thermostat heating set_thermostat",
        "Set the temperature of a room.|Controls the heating",
        (("room zone", "noun", "The room"), ("temperature degrees value", "decimal", "Degrees Celsius")),
        ("Set the {0} to {1} degrees", "Heat the {0} to {1} degrees", "Make it {1} degrees in the {0}", "Coloque {1} graus no {0}"),
    ),
    Family(
        "read_file open_file cat load_file readFile",
        "Read a file.|Returns the content of a file",
        (("path file filename", "path", "Path of the file"),),
        ("Read the file {0}", "What is in {0}?", "Open {0}", "Show me the contents of {0}", "Leia o arquivo {0}", "O que há em {0}?"),
    ),
    Family(
        "write_file save_file save write_text",
        "Write text to a file.|Saves a text",
        (("path file filename", "path", "Path of the file"), ("content text data", "sentence", "What to write")),
        ('Write "{1}" to {0}', 'Save "{1}" in {0}', 'Create the file {0} with the text "{1}"', 'Escreva "{1}" em {0}'),
    ),
    Family(
        "fetch_url download get_page fetch http_get",
        "Download a web page.|Gets the content of an address",
        (("url link address", "url", "The address"),),
        ("Fetch {0}", "Download {0}", "What is on the page {0}?", "Get {0}", "Baixe {0}"),
    ),
    Family(
        "convert_units units unit_converter convert",
        "Convert a quantity between units.|Unit conversion",
        (("value amount quantity", "decimal", "The number"), ("from_unit source from", "enum:km|miles|kg|pounds|meters|feet|liters|gallons", "Unit of the number"), ("to_unit target to", "enum:km|miles|kg|pounds|meters|feet|liters|gallons", "Wanted unit")),
        ("Convert {0} {1} to {2}", "How many {2} are {0} {1}?", "{0} {1} in {2}?", "Quantos {2} são {0} {1}?"),
        "That is {r}.",
    ),
    Family(
        "get_distance distance route how_far",
        "Distance between two places.|How far two cities are from each other",
        (("start origin from_place source", "city", "Where to start"), ("end destination to_place target", "city", "Where to go"), ("mode by transport", "enum:car|train|bus|plane", "How to travel")),
        ("How far is it from {0} to {1}?", "What is the distance between {0} and {1}?", "Distance from {0} to {1} by {2}", "How far is {1} from {0}?", "Qual é a distância entre {0} e {1}?"),
        "The distance is {r}.",
    ),
    Family(
        "add_to_cart buy order_item cart_add add_item",
        "Put a product into the cart.|Order a product",
        (("product item name", "noun", "The product"), ("quantity count amount", "int", "How many"), ("color colour", "colour", "The colour")),
        ("Add {1} {0} to my cart", "I want to buy {1} {0}", "Order {1} {2} {0}", "Put {1} {2} {0} in the cart", "Buy {1} of {0}, colour {2}", "Adicione {1} {0} ao carrinho"),
    ),
    Family(
        "create_user register add_user new_user sign_up add_person",
        "Register a new user.|Creates a person",
        (("name full_name user", "person", "Name of the person"), ("age years", "int", "Age in years"), ("email mail contact", "email", "E-mail address"), ("admin is_admin active", "bool", "Whether the user is one")),
        (
            "Register {0}, {1} years old, email {2}", "Add the user {0} with the email {2}", "Create a user named {0}, age {1}", "Sign up {0} ({2})", "New user: {0}, {1}, {2}",
            "Cadastre {0}, {1} anos, email {2}", "Crie o usuário {0} com o email {2}",
        ),
    ),
    Family(
        "list_files ls list_dir show_files", "List the files of a folder.|Shows what is in a folder", (("folder path directory", "path", "The folder"),),
        ("List the files in {0}", "What files are in {0}?", "Show the folder {0}", "Liste os arquivos em {0}"),
    ),
    Family("get_date today current_date what_day", "Today's date.|Returns the current date", (), ("What day is it today?", "What is the date?", "Which day is today?", "Que dia é hoje?", "What is today's date?"), "Today is {r}."),
    Family("get_balance balance account_balance", "Balance of the account.|How much money is left", (), ("How much money do I have?", "What is my balance?", "Show my account balance", "Qual é o meu saldo?"), "Your balance is {r}."),
    Family("tell_joke joke random_joke get_joke", "Tells a joke.|Get a random joke", (), ("Tell me a joke", "Make me laugh", "I want to hear a joke", "Conte uma piada")),
    Family("list_users all_users get_users show_users", "List all users.|Returns every user", (), ("Show me all users", "List the users", "Which users are there?", "Liste os usuários")),
    Family(
        "sum_list sum_numbers total add_all average mean", "Computes over a list of numbers.|Takes numbers and returns one number", (("numbers values items", "array:int", "The numbers"),),
        ("Use {name} on {0}", "Apply {name} to {0}", "Compute {name} of {0}", "Run {name} for the numbers {0}"), "The result is {r}.",
    ),
    Family(
        "find_recipe recipe recipes cook", "Find a recipe.|Recipes for a dish with some ingredients", (("dish meal name", "food", "What to cook"), ("ingredients with_items items", "array:food", "What must be in it")),
        ("Find a recipe for {0}", "How do I cook {0} with {1}?", "A recipe for {0} with {1}, please", "Uma receita de {0} com {1}"),
    ),
    Family(
        "set_alarm alarm wake_up", "Set an alarm.|Rings at a time", (("time at hour", "time", "When it rings"), ("label name note", "phrase", "What it is for")),
        ("Set an alarm for {0}", "Wake me up at {0}", "Alarm at {0} for {1}", "Acorde-me às {0}", "Coloque um alarme para {0}"),
    ),
    Family(
        "create_ticket report_bug open_ticket new_issue", "Open a ticket.|Report a problem",
        (("title summary subject", "phrase", "What is wrong"), ("priority severity level", "enum:low|medium|high", "How urgent"), ("assignee owner user", "person", "Who takes care")),
        ('Open a ticket "{0}" with {1} priority', "Report: {0}, priority {1}, for {2}", "Create a {1} ticket about {0} and give it to {2}", 'Abra um chamado "{0}" com prioridade {1}'),
    ),
    Family(
        "transfer_money pay transfer send_money", "Transfer money to a person.|Pays someone", (("recipient to payee", "person", "Who gets it"), ("amount value sum", "decimal", "How much"), ("currency unit", "currency", "Currency code")),
        ("Transfer {1} {2} to {0}", "Pay {0} {1} {2}", "Send {1} {2} to {0}", "Send {0} {1}", "Transfira {1} {2} para {0}"), "",
    ),
)  # fmt: skip

"""The colours of Okabe and Ito, which people with any colour vision can tell apart."""

BLACK, GREY = "#000000", "#BBBBBB"
VERMILION, BLUE, GREEN, ORANGE, SKY, PURPLE, YELLOW = (
    *("#D55E00", "#0072B2", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442"),
)

#: For the bars and lines of one picture, in this order.
SERIES = (VERMILION, BLUE, GREEN, ORANGE, SKY, PURPLE, YELLOW, BLACK, GREY)

#: The states of an LSTM, in all pictures.
CELL_STATE, HIDDEN_STATE = ORANGE, PURPLE

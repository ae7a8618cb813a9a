"""What the user of a dialogue has asked for so far, as conditions on the rows of a knowledge base."""

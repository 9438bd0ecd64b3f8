"""Studies: questions that need many trainings. Run once by a command, their tables come with the library, and a chapter shows them."""

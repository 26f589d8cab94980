"""Timer messages: delivered at the millisecond that their sender names, days ahead if need be, unless they are
recalled."""

"""What visitors do: a journey a module. `content` says what right answers are, `visitor` how they are asked for."""

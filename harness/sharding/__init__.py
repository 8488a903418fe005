"""One model in several processes: `launch` starts them, `model` is each one's part, `checks` names what cannot be."""

"""The operator's screen: looks on, and passes on what a person wants. Only here is Qt."""

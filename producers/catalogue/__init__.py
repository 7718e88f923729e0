"""The catalogue of titles: what they are called, what they are about, who made them, where they may be shown, and their pictures."""

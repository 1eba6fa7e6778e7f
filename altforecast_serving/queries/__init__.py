"""What the outside may know: one file per noun, shared by routes, pages and bot.

What belongs here: reading lake and store into plain rows. What does not: HTTP, rendering, authorisation.
"""

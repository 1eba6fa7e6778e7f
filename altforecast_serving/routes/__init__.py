"""One router per noun: parameters, response models, thin handlers.

What belongs here: the shape of requests and answers. What does not: how rows are found (`queries`).
"""

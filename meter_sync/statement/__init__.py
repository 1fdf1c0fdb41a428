"""The statement as a person reads it: the page, and the same figures for programs. It is given figures and asks nobody.

What is heavy, templates and locales, is imported by whoever makes a page, and by nobody else.
"""

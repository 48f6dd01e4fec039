"""Where a short link leads, and how its clicks are counted: what the links service and the redirect function share.

It needs psycopg2 and nothing else, so that the function starts fast.
"""

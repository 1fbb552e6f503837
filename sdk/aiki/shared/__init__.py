"""What every process of Aiki does alike, be it worker, server or operator.

That is: what logs look like and may say, how Redis is reached, how long to wait before a new try. Nothing here knows anything else of Aiki, so that the server and the operator may import it.
"""

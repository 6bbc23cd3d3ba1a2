"""How compressed weights lie in memory: the numbers a format has, and the bytes that store them.

grids       which numbers the weights of a layer may be, and the nearest of them
decoding    the steps from stored arrays back to the weight, in numpy (`tersor.ir.decoders`: as PrimFuncs)
encoded     the stored arrays of one weight, made by `encode`
size        the bytes that takes, in closed form
"""

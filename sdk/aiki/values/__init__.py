"""Values between Python and text: encoding by annotation, addresses, names and origins, durations, retry policies, parameters of functions.

Pure, and below everything that users declare: what is written here is in histories and must come out the same for ever.
"""

"""Pull-through: repositories that stand for repositories of other registries, kept here once they were pulled.

    rules       what stands for what; pure
    stored      the rules in SQL, passwords sealed
    configured  the rules as options or a file
    troubles    what an upstream refused or failed at lately, so that it is not asked again at once
    origin      an upstream's repository, spoken to within bounds
    download    one blob on its way in, for any number of readers
    downloads   one download a blob; resumed after a restart
    marks       SQL: when a tag was last asked for, which upload a blob comes into
    cache       what the endpoints ask

See docs/decisions/0016.
"""

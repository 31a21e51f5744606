-- By which values of its keys an item was seen, and whether it is present there: the newest first, for an item that comes with
-- several values of one bucket counts once there, as its last operation says. Where it is present everywhere the order does not
-- matter and is left out, so that few different answers remain to be counted.
        arrayReverseSort(groupArray((part.last, part.split))) AS operations,
        arrayMap(operation -> (operation.2, endsWith(operation.1, '0')), operations) AS newest_first,
        if(arrayAll(one -> one.2, newest_first), arrayDistinct(arraySort(newest_first)), newest_first) AS seen
